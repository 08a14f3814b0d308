// Package native runs the data's way as plain processes on this machine, for CI and for machines without Docker: a
// Postgres from local binaries, Apache Kafka and Kafka Connect with Debezium from Maven Central. It is the same stack as
// docker-compose.yml, with the same settings, which a test compares.
package native

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cdcseed/cdcseed/await"
	"github.com/cdcseed/cdcseed/debezium"
	"github.com/cdcseed/cdcseed/postgres"
	"github.com/cdcseed/cdcseed/topics"
)

// ErrMissing marks a program that the stack needs and this machine does not have.
var ErrMissing = errors.New("missing on this machine")

// Config says where and how the stack runs. All servers listen on loopback only.
type Config struct {
	Dir          string // of the stack's own: data, logs, state
	CacheDir     string // of what Maven brings; survives Down
	PostgresBin  string // folder with initdb and postgres; empty: found, or from Maven
	PostgresPort int    // this and the following: 0 for any that is free
	KafkaPort    int
	ConnectPort  int
	User         string // superuser of Postgres
	Password     string
	Database     string
	PostgresOnly bool          // leave out Kafka and Connect, and the need for Java and Maven
	MaxWait      time.Duration // for each server to get ready
}

// Info tells how to reach a stack that is up.
type Info struct {
	DSN        string `json:"dsn"` // without the password
	Bootstrap  string `json:"bootstrap_servers,omitempty"`
	ConnectURL string `json:"connect_url,omitempty"`
	Logs       string `json:"logs"`
}

// service is a process of the stack.
type service struct {
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	Started string `json:"started"` // the process's start time as the system tells it, against reused pids
}

// state is what Up leaves for Down, in state.json.
type state struct {
	Info     Info      `json:"info"`
	Services []service `json:"services"`
}

func (c Config) info() Info {
	i := Info{
		DSN:  fmt.Sprintf("postgres://%s@localhost:%d/%s", c.User, c.PostgresPort, c.Database),
		Logs: filepath.Join(c.Dir, "logs"),
	}
	if !c.PostgresOnly {
		i.Bootstrap = "localhost:" + strconv.Itoa(c.KafkaPort)
		i.ConnectURL = "http://localhost:" + strconv.Itoa(c.ConnectPort)
	}
	return i
}

// stack is a Config at work.
type stack struct {
	Config
	controllerPort int
	log            *slog.Logger
	state          state
}

// Up starts what does not run yet and returns when all of it is ready. When it fails, what it started is stopped.
func Up(ctx context.Context, cfg Config, log *slog.Logger) (Info, error) {
	s := &stack{Config: cfg, log: log}
	unlock, err := s.lock()
	if err != nil {
		return Info{}, err
	}
	defer unlock()
	if s.state, err = readState(cfg.Dir); err != nil {
		return Info{}, err
	}
	if len(s.state.Services) > 0 {
		if s.allAlive() {
			log.Info("the native stack is up already", "folder", cfg.Dir)
			return s.state.Info, nil
		}
		log.Warn("parts of the native stack have died; starting it anew", "folder", cfg.Dir)
		if err := s.stop(ctx); err != nil {
			return Info{}, err
		}
	}
	if err := s.start(ctx); err != nil {
		return Info{}, errors.Join(err, s.stop(context.WithoutCancel(ctx)))
	}
	return s.state.Info, nil
}

func (s *stack) start(ctx context.Context) error {
	if err := s.choosePorts(ctx); err != nil {
		return err
	}
	for _, d := range []string{s.Dir, s.state.Info.Logs, filepath.Join(s.Dir, "logs")} {
		if d == "" {
			continue
		}
		if err := os.MkdirAll(d, 0o755); err != nil { //nolint:gosec // the server's other user must reach its data
			return fmt.Errorf("make the stack's folder: %w", err)
		}
	}
	s.state = state{Info: s.info()}
	if err := s.startPostgres(ctx); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	if s.PostgresOnly {
		return nil
	}
	lib, err := s.resolve(ctx)
	if err != nil {
		return err
	}
	if err := s.startKafka(ctx, lib); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	if err := s.startConnect(ctx, lib); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

// choosePorts picks those that were left open, and refuses those that somebody listens on, before anything is started.
func (s *stack) choosePorts(ctx context.Context) error {
	ports := map[string]*int{"--postgres-port": &s.PostgresPort}
	if !s.PostgresOnly {
		if s.KafkaPort != 0 {
			s.controllerPort = s.KafkaPort + 1
		}
		ports["--kafka-port"], ports["--connect-port"] = &s.KafkaPort, &s.ConnectPort
		ports["--kafka-port plus one, for the controller"] = &s.controllerPort
	}
	for flag, port := range ports {
		if *port == 0 {
			l, free, err := freePort(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = l.Close() }() // held until all are chosen, so that no two are the same
			*port = free
			continue
		}
		l, err := listen(ctx, *port)
		if err != nil {
			return fmt.Errorf("port %d (%s) is taken; choose another: %w", *port, flag, err)
		}
		defer func() { _ = l.Close() }()
	}
	return nil
}

func listen(ctx context.Context, port int) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:wrapcheck // by the callers
}

// Where free ports are looked for: below those that systems hand out to clients, so that none is taken by somebody's
// connection between the choice and the server's start.
const firstFree, lastFree = 15_000, 32_000

// freePort finds a port that nobody listens on, and listens.
func freePort(ctx context.Context) (net.Listener, int, error) {
	var last error
	for range 100 {
		port := firstFree + rand.IntN(lastFree-firstFree)
		l, err := listen(ctx, port)
		if err == nil {
			return l, port, nil
		}
		last = err
	}
	return nil, 0, fmt.Errorf("find a free port: %w", last)
}

// FreePort finds a port that nobody listens on now.
func FreePort(ctx context.Context) (int, error) {
	l, port, err := freePort(ctx)
	if err != nil {
		return 0, err
	}
	return port, l.Close() //nolint:wrapcheck // of a listener that nobody used
}

// launch starts a server that outlives this process, with its output in the logs folder, and notes it.
func (s *stack) launch(name, program string, args, env []string, as *credential) error {
	logFile, err := os.OpenFile(filepath.Join(s.Dir, "logs", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // no secrets in it
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", name, err)
	}
	defer func() { _ = logFile.Close() }()
	pid, err := startDetached(program, args, env, s.Dir, logFile, as)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	s.state.Services = append(s.state.Services, service{Name: name, PID: pid, Started: startTime(pid)})
	return s.writeState()
}

// waitUp waits until a server answers, and no longer than it lives.
func (s *stack) waitUp(ctx context.Context, name string, op func() error) error {
	svc := s.state.Services[len(s.state.Services)-1]
	began := time.Now()
	dead := false
	p := await.Policy{What: name, MaxWait: s.MaxWait, Heals: func(error) bool { dead = !svc.alive(); return !dead }}
	_, err := await.For(ctx, p, func() (struct{}, error) { return struct{}{}, op() })
	logs := filepath.Join(s.Dir, "logs", name+".log")
	switch {
	case err == nil:
		s.log.Info(name+" is ready", "pid", svc.PID, "after", time.Since(began).Round(10*time.Millisecond))
		return nil
	case dead:
		return fmt.Errorf("%s ended at its start; its last lines:\n%s", name, tail(logs, 12))
	}
	return fmt.Errorf("%w; see %s", err, logs)
}

func (s *stack) connConfig(database string) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig("host=127.0.0.1 sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("address of the native Postgres: %w", err)
	}
	cfg.Port, cfg.Database, cfg.User, cfg.Password = uint16(s.PostgresPort), database, s.User, s.Password
	return cfg, nil
}

func (s *stack) startPostgres(ctx context.Context) error {
	bin, err := s.postgresBin(ctx)
	if err != nil {
		return err
	}
	as, err := unprivileged()
	if err != nil {
		return err
	}
	data := filepath.Join(s.Dir, "postgres")
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); errors.Is(err, os.ErrNotExist) {
		if err := s.initDB(ctx, bin, data, as); err != nil {
			return err
		}
	}
	args := []string{"-D", data}
	for k, v := range PostgresSettings {
		args = append(args, "-c", k+"="+v)
	}
	args = append(args, "-c", "port="+strconv.Itoa(s.PostgresPort), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")
	if err := s.launch("postgres", filepath.Join(bin, "postgres"), args, nil, as); err != nil {
		return err
	}
	admin, err := s.connConfig("postgres")
	if err != nil {
		return err
	}
	return s.waitUp(ctx, "postgres", func() error {
		conn, err := pgx.ConnectConfig(ctx, admin)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		defer func() { _ = conn.Close(ctx) }()
		var exists bool
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", s.Database).Scan(&exists); err != nil || exists {
			return err //nolint:wrapcheck // tried again, and shown as the reason
		}
		_, err = conn.Exec(ctx, "CREATE DATABASE "+postgres.QuoteIdent(s.Database))
		return err //nolint:wrapcheck // tried again, and shown as the reason
	})
}

func (s *stack) initDB(ctx context.Context, bin, data string, as *credential) error {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	pwFile := filepath.Join(s.Dir, "pwfile")
	if err := os.WriteFile(pwFile, []byte(s.Password+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the password for initdb: %w", err)
	}
	defer func() { _ = os.Remove(pwFile) }()
	if err := as.own(data, pwFile); err != nil {
		return err
	}
	out, err := runAs(ctx, s.Dir, as, filepath.Join(bin, "initdb"), "-D", data, "-U", s.User, "--pwfile", pwFile,
		"-A", "scram-sha-256", "-E", "UTF8", "--locale", "C")
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (s *stack) startKafka(ctx context.Context, lib string) error {
	dir := filepath.Join(s.Dir, "kafka")
	settings := BrokerSettings()
	settings["listeners"] = fmt.Sprintf("HOST://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", s.KafkaPort, s.controllerPort)
	settings["advertised.listeners"] = fmt.Sprintf("HOST://localhost:%d", s.KafkaPort)
	settings["listener.security.protocol.map"] = "HOST:PLAINTEXT,CONTROLLER:PLAINTEXT"
	settings["inter.broker.listener.name"] = "HOST"
	settings["controller.quorum.voters"] = fmt.Sprintf("1@127.0.0.1:%d", s.controllerPort)
	settings["log.dirs"] = dir
	for k, v := range patience {
		settings[k] = v
	}
	props, err := s.writeProperties("server.properties", settings)
	if err != nil {
		return err
	}
	logging, err := s.writeLogging()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "meta.properties")); errors.Is(err, os.ErrNotExist) {
		args := javaArgs(lib, logging, "256m", "kafka.tools.StorageTool", "format", "-t", ClusterID, "-c", props)
		if out, err := runAs(ctx, s.Dir, nil, "java", args...); err != nil {
			return fmt.Errorf("format the broker's storage: %w\n%s", err, out)
		}
	}
	if err := s.launch("kafka", "java", javaArgs(lib, logging, "384m", "kafka.Kafka", props), nil, nil); err != nil {
		return err
	}
	cluster := topics.Cluster{Brokers: []string{"127.0.0.1:" + strconv.Itoa(s.KafkaPort)}}
	return s.waitUp(ctx, "kafka", func() error {
		admin, err := topics.Dial(ctx, cluster, 0, nil)
		if err != nil {
			return err
		}
		_, err = admin.List(nil)
		return errors.Join(err, admin.Close())
	})
}

func (s *stack) startConnect(ctx context.Context, lib string) error {
	settings := WorkerSettings()
	settings["bootstrap.servers"] = "127.0.0.1:" + strconv.Itoa(s.KafkaPort)
	settings["listeners"] = "http://127.0.0.1:" + strconv.Itoa(s.ConnectPort)
	settings["rest.advertised.host.name"] = "localhost"
	settings["plugin.path"] = filepath.Join(lib, "plugins")
	settings["plugin.discovery"] = "service_load"
	for k, v := range connectPatience {
		settings[k] = v
	}
	props, err := s.writeProperties("connect.properties", settings)
	if err != nil {
		return err
	}
	logging, err := s.writeLogging()
	if err != nil {
		return err
	}
	args := javaArgs(lib, logging, "512m", "org.apache.kafka.connect.cli.ConnectDistributed", props)
	if err := s.launch("connect", "java", args, []string{PasswordVariable + "=" + s.Password}, nil); err != nil {
		return err
	}
	client, err := debezium.NewClient(s.info().ConnectURL, 0, nil)
	if err != nil {
		return err
	}
	defer client.Close()
	return s.waitUp(ctx, "connect", func() error {
		_, err := client.WaitReady(ctx)
		return err
	})
}

// Down stops the stack and, unless keep is set, removes its folder. A stack that is not up is down.
func Down(ctx context.Context, dir string, keep bool, log *slog.Logger) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	s := &stack{Config: Config{Dir: dir}, log: log}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if s.state, err = readState(dir); err != nil {
		return err
	}
	if err := s.stop(ctx); err != nil || keep {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the stack's folder: %w", err)
	}
	return nil
}

// stop ends the services, the last started first, and waits until they are gone.
func (s *stack) stop(ctx context.Context) error {
	for i := len(s.state.Services) - 1; i >= 0; i-- {
		svc := s.state.Services[i]
		if err := svc.end(ctx); err != nil {
			return fmt.Errorf("stop %s (pid %d): %w", svc.Name, svc.PID, err)
		}
		s.log.Info(svc.Name + " is stopped")
		s.state.Services = s.state.Services[:i]
		if err := s.writeState(); err != nil {
			return err
		}
	}
	return nil
}

// grace is how long a server may take to stop before it is killed.
const grace = 60 * time.Second

// end asks a process to end and kills it when it does not.
func (v service) end(ctx context.Context) error {
	if !v.alive() {
		return nil
	}
	if err := terminate(v.PID, v.Name == "postgres"); err != nil {
		return err
	}
	gone := await.Policy{What: "the end of " + v.Name, MaxWait: grace}
	_, err := await.For(ctx, gone, func() (struct{}, error) {
		if v.alive() {
			return struct{}{}, errors.New("still running")
		}
		return struct{}{}, nil
	})
	if errors.Is(err, await.ErrUnavailable) {
		return kill(v.PID)
	}
	return err
}

func (v service) alive() bool { return v.PID > 0 && v.Started != "" && startTime(v.PID) == v.Started }

func (s *stack) allAlive() bool {
	for _, v := range s.state.Services {
		if !v.alive() {
			return false
		}
	}
	return true
}

// Status tells the stack's services and whether each is alive.
func Status(dir string) (Info, map[string]bool, error) {
	st, err := readState(dir)
	if err != nil {
		return Info{}, nil, err
	}
	alive := make(map[string]bool, len(st.Services))
	for _, v := range st.Services {
		alive[v.Name] = v.alive()
	}
	return st.Info, alive, nil
}

func stateFile(dir string) string { return filepath.Join(dir, "state.json") }

func readState(dir string) (state, error) {
	var st state
	b, err := os.ReadFile(stateFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return st, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err != nil {
		return st, fmt.Errorf("read the stack's state: %w", err)
	}
	return st, nil
}

func (s *stack) writeState() error {
	b, err := json.MarshalIndent(s.state, "", "  ")
	if err == nil {
		err = os.WriteFile(stateFile(s.Dir), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the stack's state: %w", err)
	}
	return nil
}

// ThisProcess names our process so that ProcessAlive can tell it from a later one with the same pid.
func ThisProcess() string { return fmt.Sprintf("%d %s", os.Getpid(), startTime(os.Getpid())) }

// ProcessAlive reports whether the process that ThisProcess named is still there.
func ProcessAlive(name string) bool {
	pid, started, _ := strings.Cut(strings.TrimSpace(name), " ")
	n, err := strconv.Atoi(pid)
	return err == nil && service{PID: n, Started: started}.alive()
}
