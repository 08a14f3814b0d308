// Package compose checks docker-compose.yml with the library that `docker compose` itself reads it with. It is a module
// of its own because the library is needed for nothing else.
package compose

import (
	"encoding/xml"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/cdcseed/cdcseed/native"
)

func project(t *testing.T) *types.Project {
	t.Helper()
	o, err := cli.NewProjectOptions([]string{"../../../docker-compose.yml"}, cli.WithName("cdcseed"), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestServices(t *testing.T) {
	t.Parallel()
	p := project(t)
	want := map[string][]string{
		"postgres": nil, "kafka": nil, "connect": {"kafka", "postgres"}, "kafka-ui": {"connect", "kafka"}, "cdcseed": {"connect", "kafka", "postgres"},
	}
	if got := slices.Sorted(maps.Keys(p.Services)); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Fatalf("services %v", got)
	}
	for name, deps := range want {
		s := p.Services[name]
		if got := slices.Sorted(maps.Keys(s.DependsOn)); !slices.Equal(got, deps) {
			t.Errorf("%s depends on %v, want %v", name, got, deps)
		}
		for dep, d := range s.DependsOn {
			if d.Condition != types.ServiceConditionHealthy {
				t.Errorf("%s starts when %s is %s", name, dep, d.Condition)
			}
		}
		if s.MemLimit == 0 {
			t.Errorf("%s has no memory limit", name)
		}
		if name == "cdcseed" {
			if s.Build == nil {
				t.Error("cdcseed is not built from here")
			}
			continue
		}
		if s.HealthCheck == nil || len(s.HealthCheck.Test) == 0 || s.HealthCheck.Disable {
			t.Errorf("%s has no health check", name)
		}
		if _, tag, ok := strings.Cut(s.Image, ":"); !ok || tag == "latest" {
			t.Errorf("%s's image %s is not pinned", name, s.Image)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s is open to the network on port %s", name, port.Published)
			}
		}
	}
	for _, name := range []string{"postgres", "kafka"} {
		if v := p.Services[name].Volumes; len(v) != 1 || v[0].Type != types.VolumeTypeVolume {
			t.Errorf("%s keeps its data in %+v", name, v)
		}
	}
}

// addresses are the settings that differ because the stacks' networks and folders do.
var addresses = []string{
	"listeners", "advertised.listeners", "listener.security.protocol.map", "inter.broker.listener.name", "controller.quorum.voters",
	"log.dirs", "heap.opts",
}

// The settings of compose's servers are the native stack's, both ways, save the addresses.
func TestSettingsAreTheNativeStacks(t *testing.T) {
	t.Parallel()
	p := project(t)
	compare := func(what string, compose, native map[string]string) {
		t.Helper()
		for _, k := range addresses {
			delete(compose, k)
		}
		if !maps.Equal(compose, native) {
			for _, k := range slices.Sorted(maps.Keys(compose)) {
				if compose[k] != native[k] {
					t.Errorf("%s: %s is %q in compose, %q natively", what, k, compose[k], native[k])
				}
			}
			for k, v := range native {
				if _, ok := compose[k]; !ok {
					t.Errorf("%s: %s is not set in compose, %q natively", what, k, v)
				}
			}
		}
	}
	// The images turn PREFIX_A_B into a.b.
	fromEnv := func(s types.ServiceConfig, prefix string) map[string]string {
		out := map[string]string{}
		for k, v := range s.Environment {
			if rest, ok := strings.CutPrefix(k, prefix); ok && v != nil {
				out[strings.ReplaceAll(strings.ToLower(rest), "_", ".")] = *v
			}
		}
		return out
	}
	compare("kafka", fromEnv(p.Services["kafka"], "KAFKA_"), native.BrokerSettings())
	if id := p.Services["kafka"].Environment["CLUSTER_ID"]; id == nil || *id != native.ClusterID {
		t.Error("the cluster's id differs")
	}

	connect := fromEnv(p.Services["connect"], "CONNECT_")
	for variable, k := range map[string]string{
		"GROUP_ID": "group.id", "CONFIG_STORAGE_TOPIC": "config.storage.topic", "OFFSET_STORAGE_TOPIC": "offset.storage.topic",
		"STATUS_STORAGE_TOPIC": "status.storage.topic",
	} {
		if v := p.Services["connect"].Environment[variable]; v != nil {
			connect[k] = *v
		}
	}
	compare("connect", connect, native.WorkerSettings())
	for k, v := range p.Services["connect"].Environment {
		if strings.HasPrefix(k, "CONNECT_") && v != nil && strings.Contains(*v, "@") {
			t.Errorf("%s holds an @, which the image's start script cannot take", k)
		}
	}
	if p.Services["connect"].Environment[native.PasswordVariable] == nil {
		t.Errorf("the worker has no %s for the connector's configuration to refer to", native.PasswordVariable)
	}

	postgres := map[string]string{}
	command := p.Services["postgres"].Command
	for i, arg := range command {
		if arg == "-c" {
			k, v, _ := strings.Cut(command[i+1], "=")
			postgres[k] = v
		}
	}
	compare("postgres", postgres, native.PostgresSettings)
}

func TestVersionsAreTheNativeStacks(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../../native/pom.xml")
	if err != nil {
		t.Fatal(err)
	}
	var pom struct {
		Properties struct {
			Kafka    string `xml:"kafka.version"`
			Debezium string `xml:"debezium.version"`
			Postgres string `xml:"postgres.version"`
		} `xml:"properties"`
	}
	if err := xml.Unmarshal(b, &pom); err != nil {
		t.Fatal(err)
	}
	p := project(t)
	for service, version := range map[string]string{"kafka": pom.Properties.Kafka, "connect": pom.Properties.Debezium, "postgres": pom.Properties.Postgres} {
		_, tag, _ := strings.Cut(p.Services[service].Image, ":")
		if version == "" || !(version == tag || strings.HasPrefix(version, tag+".")) {
			t.Errorf("%s: image %s, natively %q", service, tag, version)
		}
	}
}

// What cdcseed is told in compose is a flag of `run`, and the password goes by reference.
func TestCdcseedsVariables(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../../../cmd/cdcseed/flags.go")
	if err != nil {
		t.Fatal(err)
	}
	run, err := os.ReadFile("../../../cmd/cdcseed/run.go")
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]bool{}
	for _, m := range regexp.MustCompile(`Name: "([a-z-]+)"`).FindAllStringSubmatch(string(source)+string(run), -1) {
		flags["CDCSEED_"+strings.ToUpper(strings.ReplaceAll(m[1], "-", "_"))] = true
	}
	env := project(t).Services["cdcseed"].Environment
	for k := range env {
		if !flags[k] {
			t.Errorf("%s is no flag's variable", k)
		}
	}
	if v := env["CDCSEED_CONNECTOR_PASSWORD"]; v == nil || *v != "${env:"+native.PasswordVariable+"}" {
		t.Errorf("the connector's password is not given by reference")
	}
}
