package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/initcontainer/doctor"
)

// doctor runs it as ECS Exec does in another container, without the init
// container's configuration.
func (m *meshTask) doctor(t *testing.T) (code int, report doctor.Report) {
	t.Helper()
	command := exec.Command(filepath.Join(m.volume, "bin/ecsmesh-init"), "doctor", "-json")
	for _, variable := range m.env {
		if !strings.HasPrefix(variable, "ECSMESH_CONFIG=") {
			command.Env = append(command.Env, variable)
		}
	}
	return runDoctorJSON(t, command)
}

func runDoctorJSON(t *testing.T, command *exec.Cmd) (code int, report doctor.Report) {
	t.Helper()
	var log bytes.Buffer
	command.Stderr = &log
	output, _ := command.Output() // of its failure, the code tells
	if err := json.Unmarshal(output, &report); err != nil {
		t.Fatalf("%v in:\n%s\n%s", err, output, &log)
	}
	return command.ProcessState.ExitCode(), report
}

// expectDoctor wants what is wrong first, or "".
func (m *meshTask) expectDoctor(t *testing.T, want string) {
	t.Helper()
	await(t, fmt.Sprintf("doctor to say %q", want), func() error {
		code, report := m.doctor(t)
		got, wantCode := "", 0
		if report.First != nil {
			got = report.First.Wrong
		}
		if want != "" {
			wantCode = 1
		}
		if got != want || code != wantCode {
			return fmt.Errorf("it says %q, exit %d: %s", got, code, asText(report))
		}
		return nil
	})
}

// TestDoctorChangesNothing compares all there is before and after, of a task that
// is well and of one that is not.
func TestDoctorChangesNothing(t *testing.T) {
	w := newWorld(t)
	if code, log := w.register(t); code != 0 {
		t.Fatalf("exit %d:\n%s", code, log)
	}
	before := w.endState(t)
	for _, program := range []string{binary, filepath.Join(w.volume, "bin/ecsmesh-init")} {
		command := w.command("doctor", "-json")
		command.Path = program
		code, report := runDoctorJSON(t, command)
		if code != 1 || report.First == nil || report.First.Wrong != doctor.XDSUnreachable.String() {
			t.Errorf("exit %d: %s", code, asText(report))
		}
	}
	if diff := cmp.Diff(before, w.endState(t)); diff != "" {
		t.Errorf("it changed (-before +after):\n%s", diff)
	}
}

func TestDoctorInTheTopologies(t *testing.T) {
	server := consultest.Start(t)
	t.Run("direct", func(t *testing.T) {
		task := startService(t, server, "web", "")
		task.expectDoctor(t, "")
		command := exec.Command(filepath.Join(task.volume, "bin/ecsmesh-init"), "doctor")
		command.Env = task.env
		if code, text := finish(t, command); code != 0 || !strings.HasPrefix(text, "Nothing is wrong.\n") {
			t.Errorf("exit %d:\n%s", code, text)
		}
	})
	t.Run("dataplane", func(t *testing.T) {
		startDataplane(t, server, buildDataplane(t), "api", "").expectDoctor(t, "")
	})
	t.Run("client-agent", func(t *testing.T) {
		task := startClientTask(t, server, fmt.Sprintf(clientService, "shop", "", ""))
		serveAt(t, task.address, 8080, "shop")
		task.awaitStatus(t, server, "shop-sidecar-proxy", api.HealthPassing)
		task.expectDoctor(t, "")
		task.stopAgent(os.Kill)
		task.expectDoctor(t, doctor.AgentUnreachable.String())
	})
}

// TestDoctorOnAVolumeThatFails has a real volume fail, in a mount namespace in
// which this user may mount.
func TestDoctorOnAVolumeThatFails(t *testing.T) {
	server := consultest.Start(t)
	task := startService(t, server, "web", "")
	for name, test := range map[string]struct{ options, fail, want string }{
		"it is full":              {"size=64m", `! head -c 64m /dev/zero >"$V/filler" 2>/dev/null`, doctor.VolumeFull.String()},
		"it takes no more files":  {"nr_inodes=40", `i=0; while touch "$V/filler$i" 2>/dev/null; do i=$((i + 1)); done`, doctor.VolumeFull.String()},
		"it is the application's": {"size=64m", `mount -o remount,bind,ro "$V"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			line := `mount -t tmpfs -o ` + test.options + ` tmpfs "$V" && cp -a "$FROM/." "$V" && { ` + test.fail + `; } && exec "$V/bin/ecsmesh-init" doctor -json`
			command := exec.Command("/bin/sh", "-c", line)
			command.Env = append([]string{"V=" + t.TempDir(), "FROM=" + task.volume}, task.env...)
			command.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
			}
			code, report := runDoctorJSON(t, command)
			got := ""
			if report.First != nil {
				got = report.First.Wrong
			}
			if got != test.want || (code != 0) != (test.want != "") {
				t.Errorf("exit %d, and %q: %s", code, got, asText(report))
			}
		})
	}
}
