// Package kafkaauth tries the ways of authentication of the topics package on a broker that asks for them. The broker is
// franz-go's kfake, in this process; the module is one of its own because nothing else needs it.
package kafkaauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/cdcseed/cdcseed/await"
	"github.com/cdcseed/cdcseed/topics"
)

// certificate makes a self-signed one for 127.0.0.1 and writes it as PEM.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	cert, ca := certificate(t)
	sasl := func(mechanism string) []kfake.Opt {
		return []kfake.Opt{kfake.EnableSASL(), kfake.Superuser(mechanism, "me", "secret")}
	}
	withTLS := kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	for _, c := range []struct {
		name    string
		broker  []kfake.Opt
		cluster topics.Cluster
		ok      bool
	}{
		{"PLAIN", sasl("PLAIN"), topics.Cluster{Mechanism: "PLAIN", User: "me", Password: "secret"}, true},
		{"PLAIN with another password", sasl("PLAIN"), topics.Cluster{Mechanism: "PLAIN", User: "me", Password: "hush"}, false},
		{"SCRAM-SHA-256", sasl("SCRAM-SHA-256"), topics.Cluster{Mechanism: "SCRAM-SHA-256", User: "me", Password: "secret"}, true},
		{"SCRAM-SHA-256 with another password", sasl("SCRAM-SHA-256"), topics.Cluster{Mechanism: "SCRAM-SHA-256", User: "me", Password: "hush"}, false},
		{"SCRAM-SHA-512", sasl("SCRAM-SHA-512"), topics.Cluster{Mechanism: "SCRAM-SHA-512", User: "me", Password: "secret"}, true},
		{"TLS", []kfake.Opt{withTLS}, topics.Cluster{TLS: true, CAFile: ca}, true},
		{"TLS by nobody we know", []kfake.Opt{withTLS}, topics.Cluster{TLS: true}, false},
		{"TLS and SCRAM", append(sasl("SCRAM-SHA-512"), withTLS), topics.Cluster{TLS: true, CAFile: ca, Mechanism: "SCRAM-SHA-512", User: "me", Password: "secret"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			broker, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, c.broker...)...)
			if err != nil {
				t.Fatal(err)
			}
			defer broker.Close()
			c.cluster.Brokers = broker.ListenAddrs()
			admin, err := topics.Dial(t.Context(), c.cluster, 0, slog.New(slog.DiscardHandler))
			if !c.ok {
				// An unknown certificate is not waited for. Of a refused password this broker says nothing but good-bye.
				if err == nil || (errors.Is(err, await.ErrUnavailable) && c.cluster.TLS) {
					t.Fatalf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = admin.Close() }()
			names := topics.NamesOf("ecomm", "demo", []string{"users"})
			created, err := admin.Create(names, topics.Settings{Partitions: 2, Replication: 1})
			if err != nil || len(created.New) != 3 {
				t.Errorf("%+v, %v", created, err)
			}
		})
	}
}

func TestAnswersNoMechanism(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "me", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	_, err = topics.Dial(t.Context(), topics.Cluster{Brokers: broker.ListenAddrs(), Mechanism: "OTHER"}, time.Hour, nil)
	if err == nil || errors.Is(err, sarama.ErrOutOfBrokers) {
		t.Errorf("error %v", err)
	}
}
