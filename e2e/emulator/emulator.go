// Package emulator runs ministack as the AWS of the tests and the demo: CloudFormation with SAM, EventBridge,
// SQS, Lambda (our real binaries, as processes), SSM, Secrets Manager, IAM, STS and ECS's own API, on a loopback
// address. Options.EnforceIAM has it allow no more than IAM's policies do.
//
// It adds what tests need beside AWS's API: to play ECS by putting its events and by assuming roles in its name, and
// to make calls slow or fail.
package emulator

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"ecsmesh/e2e/tools"
)

// Region and AccountID are those of every resource in the emulator, but for what In another account is made.
const (
	Region    = "us-east-1"
	AccountID = "000000000000"
)

const (
	// startTimeout is generous: a start takes about a second, and several on a busy machine.
	startTimeout = time.Minute
	// logTail is how much of the log an error carries.
	logTail = 2 << 10
)

//go:embed launcher.py
var launcher []byte

// Options say where an emulator lives.
type Options struct {
	// Dir is for everything that the emulator writes. It is created when missing, and belongs to one emulator.
	Dir string
	// ECSEndpoint is the URL that Lambdas use as the ECS API. Empty: the emulator's own.
	ECSEndpoint string
	// EnforceIAM checks signatures, and allows what IAM's policies allow, to all but the root user. Then Lambdas
	// use the emulator as the ECS API, which hands permitted calls about tasks on to ECSEndpoint.
	EnforceIAM bool
	// Address is the loopback IP to listen on. Empty: 127.0.0.1. The port is a free one.
	Address string
}

// Emulator is a running emulator.
type Emulator struct {
	account string
	url     string
	log     string
	cmd     *exec.Cmd
	alive   io.Closer // closing it ends the emulator, as our own death does
	exited  chan struct{}
}

// Start starts an emulator, which is ready when Start returns. The context bounds the start, not the
// emulator's life: Stop ends that, and so does the end of this process.
func Start(ctx context.Context, o Options) (*Emulator, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	e, err := launch(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start the AWS emulator: %w", err)
	}
	// The socket is there before the emulator is, so the first request waits until it can be answered.
	if _, err := e.call(ctx, http.MethodGet, "/_ministack/health", nil); err != nil {
		return nil, errors.Join(fmt.Errorf("start the AWS emulator: %w\n%s", err, e.tail()), e.Stop())
	}
	return e, nil
}

func launch(ctx context.Context, o Options) (*Emulator, error) {
	python, err := tools.Python()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o755); err != nil {
		return nil, err
	}
	script := filepath.Join(dir, "launcher.py")
	if err := os.WriteFile(script, launcher, 0o644); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "emulator.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if o.Address == "" {
		o.Address = "127.0.0.1"
	}
	var config net.ListenConfig
	config.SetMultipathTCP(false) // Python knows plain TCP only, and would leave Nagle's algorithm on
	listener, err := config.Listen(ctx, "tcp4", net.JoinHostPort(o.Address, "0"))
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer socket.Close()

	cmd := exec.Command(python, script)
	cmd.Dir = dir
	cmd.Env = environment(dir, listener.Addr().(*net.TCPAddr), o)
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Stop ends the Lambdas too; Ctrl-C is for us alone
	alive, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	e := &Emulator{
		account: AccountID,
		url:     "http://" + listener.Addr().String(),
		log:     log.Name(),
		cmd:     cmd,
		alive:   alive,
		exited:  make(chan struct{}),
	}
	go func() {
		_ = cmd.Wait() // it is always killed, so how it ended says nothing
		close(e.exited)
	}()
	return e, nil
}

// environment is all that the emulator sees of ours, and so all that its Lambdas see: nothing.
func environment(dir string, addr *net.TCPAddr, o Options) []string {
	env := []string{
		"PATH=/usr/bin:/bin",
		"HOME=" + dir,
		"TMPDIR=" + filepath.Join(dir, "tmp"),
		"STATE_DIR=" + filepath.Join(dir, "state"),
		"S3_DATA_DIR=" + filepath.Join(dir, "s3"),
		"PYTHONDONTWRITEBYTECODE=1",
		"PYTHONUNBUFFERED=1",
		"BIND_HOST=" + addr.IP.String(),
		"MINISTACK_HOST=" + addr.IP.String(),
		fmt.Sprintf("GATEWAY_PORT=%d", addr.Port),
		"AWS_ENDPOINT_URL=http://" + addr.String(),
		"MINISTACK_REGION=" + Region,
		"MINISTACK_ACCOUNT_ID=" + AccountID,
		"IOT_MTLS_ENABLED=0",
		"SFTP_ENABLED=0",
		"DOCKER_HOST=unix:///nonexistent.sock", // containers are the lab's affair
	}
	if o.EnforceIAM {
		env = append(env, "AUTH=true")
	}
	switch {
	case o.ECSEndpoint == "":
	case o.EnforceIAM:
		env = append(env, "ECS_ENDPOINT="+o.ECSEndpoint)
	default:
		env = append(env, "AWS_ENDPOINT_URL_ECS="+o.ECSEndpoint)
	}
	return env
}

// URL is the address of AWS's API.
func (e *Emulator) URL() string { return e.url }

// In is the same emulator seen from another account: its Config is that account's, and so is what it deploys. Every
// account of twelve digits is there.
func (e *Emulator) In(account string) *Emulator {
	in := *e
	in.account = account
	return &in
}

// Config reaches the emulator, ECS's own API included, from the AWS SDK, whatever the environment says, as the
// account's root user, who may do everything.
func (e *Emulator) Config() aws.Config {
	return e.ConfigAs(aws.Credentials{AccessKeyID: e.account, SecretAccessKey: "test"})
}

// ConfigAs is Config with credentials such as AssumeRole's.
func (e *Emulator) ConfigAs(c aws.Credentials) aws.Config {
	return aws.Config{
		Region:       Region,
		BaseEndpoint: aws.String(e.url),
		Credentials:  credentials.StaticCredentialsProvider{Value: c},
	}
}

// Stop ends the emulator and its Lambdas. Stopping again does nothing.
func (e *Emulator) Stop() error {
	_ = e.alive.Close()
	// Closing ends the group already, unless its leader is stuck.
	if err := syscall.Kill(-e.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop the AWS emulator: %w", err)
	}
	<-e.exited
	return nil
}

// tail is the end of the log, for an error message.
func (e *Emulator) tail() string {
	log, err := os.ReadFile(e.log)
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-logTail):])
}
