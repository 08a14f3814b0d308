package topics

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"

	"github.com/cdcseed/cdcseed/await"
)

// Mechanisms are the ways of SASL that are spoken.
var Mechanisms = []string{sarama.SASLTypePlaintext, sarama.SASLTypeSCRAMSHA256, sarama.SASLTypeSCRAMSHA512}

// Cluster says how to reach Kafka.
type Cluster struct {
	Brokers []string // host:port

	TLS      bool
	CAFile   string // PEM; empty: the system's
	CertFile string // PEM of a client certificate, with KeyFile
	KeyFile  string

	Mechanism string // one of Mechanisms; empty: no SASL
	User      string
	Password  string
}

// Config renders the settings as sarama's configuration. It reads the certificate files.
func (c Cluster) Config() (*sarama.Config, error) {
	cfg := sarama.NewConfig()
	cfg.ClientID = "cdcseed"
	cfg.Version = sarama.V3_6_0_0 // every broker of 3.6 and later speaks it; kfake's floor is below
	cfg.Admin.Timeout = 30 * time.Second
	cfg.Net.DialTimeout = 10 * time.Second
	cfg.Metadata.Retry.Max = 1 // await waits
	if c.TLS {
		conf, err := c.tls()
		if err != nil {
			return nil, err
		}
		cfg.Net.TLS.Enable, cfg.Net.TLS.Config = true, conf
	}
	if c.Mechanism != "" {
		if !slices.Contains(Mechanisms, c.Mechanism) {
			return nil, fmt.Errorf("topics: SASL mechanism %q is not one of %s", c.Mechanism, strings.Join(Mechanisms, ", "))
		}
		s := &cfg.Net.SASL
		s.Enable, s.Handshake, s.Mechanism = true, true, sarama.SASLMechanism(c.Mechanism)
		s.User, s.Password = c.User, c.Password
		switch c.Mechanism {
		case sarama.SASLTypeSCRAMSHA256:
			s.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: scram.SHA256} }
		case sarama.SASLTypeSCRAMSHA512:
			s.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: scram.SHA512} }
		}
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("topics: %w", err)
	}
	return cfg, nil
}

func (c Cluster) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read Kafka's CA certificates: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", c.CAFile)
		}
	}
	if c.CertFile != "" || c.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the client certificate for Kafka: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

// scramClient lets sarama speak SCRAM through xdg-go/scram.
type scramClient struct {
	hash scram.HashGeneratorFcn
	conv *scram.ClientConversation
}

func (s *scramClient) Begin(user, password, authzID string) error {
	client, err := s.hash.NewClient(user, password, authzID)
	if err != nil {
		return fmt.Errorf("begin SCRAM: %w", err)
	}
	s.conv = client.NewConversation()
	return nil
}

func (s *scramClient) Step(challenge string) (string, error) {
	answer, err := s.conv.Step(challenge)
	if err != nil {
		return "", fmt.Errorf("answer the SCRAM challenge: %w", err)
	}
	return answer, nil
}

func (s *scramClient) Done() bool { return s.conv.Done() }

// Admin works on the topics of one cluster.
type Admin struct {
	client sarama.Client
	admin  sarama.ClusterAdmin
	log    *slog.Logger
}

// Dial waits up to maxWait for the cluster and connects. Refused credentials are not waited for.
func Dial(ctx context.Context, c Cluster, maxWait time.Duration, log *slog.Logger) (*Admin, error) {
	cfg, err := c.Config()
	if err != nil {
		return nil, err
	}
	wait := await.Policy{What: "Kafka at " + strings.Join(c.Brokers, ","), MaxWait: maxWait, Heals: heals, Log: log}
	return await.For(ctx, wait, func() (*Admin, error) {
		client, err := sarama.NewClient(c.Brokers, cfg)
		if err != nil {
			return nil, fmt.Errorf("connect to Kafka at %s: %w", strings.Join(c.Brokers, ","), err)
		}
		admin, err := sarama.NewClusterAdminFromClient(client)
		if err != nil {
			_ = client.Close()
			return nil, fmt.Errorf("connect to Kafka's controller: %w", err)
		}
		return &Admin{client: client, admin: admin, log: log}, nil
	})
}

// heals tells an absent broker from one that refuses us.
func heals(err error) bool {
	var untrusted *tls.CertificateVerificationError
	return !errors.As(err, &untrusted) && !errors.Is(err, sarama.ErrSASLAuthenticationFailed) && !errors.Is(err, sarama.ErrUnsupportedSASLMechanism) &&
		!errors.Is(err, sarama.ErrClusterAuthorizationFailed)
}

// Close closes the connections.
func (a *Admin) Close() error {
	if err := a.admin.Close(); err != nil { // closes the client too
		return fmt.Errorf("close the connection to Kafka: %w", err)
	}
	return nil
}
