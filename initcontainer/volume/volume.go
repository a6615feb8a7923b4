// Package volume is the volume that the init container shares with Envoy's:
// which files are on it, and how they are written so that no reader ever sees
// half of one.
package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Volume is the shared volume by the path of its mount.
type Volume string

// Bootstrap is the configuration with which Envoy starts.
func (v Volume) Bootstrap() string { return v.path("envoy-bootstrap.json") }

// Dataplane is the configuration with which consul-dataplane starts, where that
// runs Envoy.
func (v Volume) Dataplane() string { return v.path("consul-dataplane.json") }

// CA is that of the Consul servers, for consul-dataplane.
func (v Volume) CA() string { return v.path("consul-ca.pem") }

// Servers is Envoy's list of the Consul servers, by a link into Live: whoever
// renews the list there can't touch what else is on the volume, programs first
// of all.
func (v Volume) Servers() string { return v.path("consul-servers.json") }

// Live is the folder of what Envoy reads again when it is renewed, which
// Envoy watches.
func (v Volume) Live() string { return v.path("state", "live") }

// LiveServers is the file behind Servers.
func (v Volume) LiveServers() string { return filepath.Join(v.Live(), filepath.Base(v.Servers())) }

// Token is Envoy's ACL token, by a link as Servers is.
func (v Volume) Token() string { return v.path("consul-token.json") }

// LiveToken is the file behind Token.
func (v Volume) LiveToken() string { return filepath.Join(v.Live(), filepath.Base(v.Token())) }

// Binary is the command of Envoy's health check.
func (v Volume) Binary() string { return v.path("bin", "ecsmesh-init") }

// Task is what check has to know. It and the following are in a folder of
// their own, which check may write to.
func (v Volume) Task() string { return v.path("state", "task.json") }

// Requests are the checks whose requests carry what not everybody may read.
func (v Volume) Requests() string { return v.path("state", "requests.json") }

// Checks is what Consul was told last.
func (v Volume) Checks() string { return v.path("state", "checks.json") }

// Upkeep is what the runs of check remember of looking after the task.
func (v Volume) Upkeep() string { return v.path("state", "upkeep.json") }

// Passed is there once Consul was told that the service passes.
func (v Volume) Passed() string { return v.path("state", "passed") }

// Client is the configuration of the task's own Consul agent, in the topology
// client-agent. It and the following two may be on a volume that only the
// agent's container mounts.
func (v Volume) Client() string { return v.path("consul-client.json") }

// ClientCA is the CA by which the agent knows the servers.
func (v Volume) ClientCA() string { return v.path("consul-ca.pem") }

// ClientData is the agent's own folder.
func (v Volume) ClientData() string { return v.path("consul-data") }

// Lock is held by the one run of check that is at work.
func (v Volume) Lock() string { return v.path("state", "lock") }

func (v Volume) path(elem ...string) string {
	return filepath.Join(append([]string{string(v)}, elem...)...)
}

// OfBinary is the volume on which a binary at that path lies: the parent of
// its bin folder.
func OfBinary(executable string) Volume {
	return Volume(filepath.Dir(filepath.Dir(executable)))
}

const (
	// Envoy runs as a user of its own, which must read what the init
	// container wrote as root; its image decides which user that is.
	readable   = 0o644
	executable = 0o755

	// What is secret is its owner's alone: Envoy's user.
	private = 0o600

	// The state folders are written to from Envoy's container, as that user.
	// Only the containers that mount the volume can reach them.
	shared = 0o777
)

// EnvoyUser is the user that the official image of Envoy runs it as.
const EnvoyUser = 101

// ConsulUser is the user that the official image of Consul runs it as.
const ConsulUser = 100

// PrepareClient creates the agent's folder, for its user alone.
func (v Volume) PrepareClient(user int) error {
	const folder = 0o700
	if err := os.MkdirAll(v.ClientData(), folder); err != nil {
		return v.explain("create a folder on", err)
	}
	if user == os.Geteuid() {
		return nil
	}
	if err := os.Chown(v.ClientData(), user, -1); err != nil {
		return v.explain("create a folder on", notGiven(user, err))
	}
	return nil
}

// Open are the folders that everybody who mounts the volume may write to, with
// OpenMode.
func (v Volume) Open() []string { return []string{filepath.Dir(v.Lock()), v.Live()} }

// OpenMode is the mode of the Open folders.
const OpenMode fs.FileMode = shared

// GiveTo has the volume belong to the user who is to write to it, unless that may
// write already. One that isn't there is left to Prepare.
func (v Volume) GiveTo(user int) error {
	const everybody = 0o002
	info, err := os.Stat(string(v))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return v.explain("look at", err)
	}
	if int(info.Sys().(*syscall.Stat_t).Uid) == user || info.Mode().Perm()&everybody != 0 {
		return nil
	}
	if err := os.Chown(string(v), user, -1); err != nil {
		return fmt.Errorf("give the shared volume %s to user %d: %w; let this container have CAP_CHOWN, or mount the volume where the image declares it", string(v), user, err)
	}
	return nil
}

// Prepare creates the folders, and the link from Servers.
func (v Volume) Prepare() error {
	if err := os.MkdirAll(filepath.Dir(v.Binary()), executable); err != nil {
		return v.explain("create a folder on", err)
	}
	for _, folder := range v.Open() {
		if err := os.MkdirAll(folder, shared); err != nil {
			return v.explain("create a folder on", err)
		}
		if err := os.Chmod(folder, shared); err != nil { // past the umask
			return v.explain("open a state folder on", err)
		}
	}
	if err := v.link(v.Servers(), v.LiveServers()); err != nil {
		return err
	}
	// Whichever user runs check first must not keep the lock from the others.
	return v.Write(v.Lock(), nil)
}

// PrepareToken creates the link from Token.
func (v Volume) PrepareToken() error { return v.link(v.Token(), v.LiveToken()) }

// link makes path stand for target, which need not be there yet. The link is
// relative, since containers may mount the volume at different paths.
func (v Volume) link(path, target string) error {
	relative, err := filepath.Rel(filepath.Dir(path), target)
	if err != nil {
		return v.explain("link "+path+" on", err)
	}
	temporary := temporaryFor(path)
	if err := v.Remove(temporary); err != nil {
		return err
	}
	if err := os.Symlink(relative, temporary); err != nil {
		return v.explain("link "+path+" on", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(v.explain("link "+path+" on", err), v.Remove(temporary))
	}
	return nil
}

// temporaryFor is where a file is written before it is renamed: under a name
// that is always the same, so that a run that was killed leaves nothing that
// the next doesn't overwrite.
func temporaryFor(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
}

// Writable tells whether files of the state folder can be replaced.
func (v Volume) Writable() bool {
	const write = 2 // W_OK of access(2), which knows of volumes mounted read-only
	return syscall.Access(filepath.Dir(v.Lock()), write) == nil
}

// Readable tells whether a file can be read, as one of another user can't.
func Readable(path string) bool {
	const read = 4 // R_OK
	return syscall.Access(path, read) == nil
}

// Remove removes files of the volume; one that isn't there is fine.
func (v Volume) Remove(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return v.explain("remove "+path+" from", err)
		}
	}
	return nil
}

// Write replaces a file of the volume as a whole.
func (v Volume) Write(path string, content []byte) error {
	return v.replace(path, readable, func(f *os.File) error {
		_, err := f.Write(content)
		return err
	})
}

// WritePrivate replaces a file of the volume that only one user may read.
func (v Volume) WritePrivate(path string, content []byte, user int) error {
	return v.replace(path, private, func(f *os.File) error {
		if user != os.Geteuid() {
			if err := f.Chown(user, -1); err != nil {
				return notGiven(user, err)
			}
		}
		_, err := f.Write(content)
		return err
	})
}

// errNotGiven keeps what is wrong with a file's owner from the advice on mounts.
var errNotGiven = errors.New("give it")

func notGiven(user int, err error) error {
	return fmt.Errorf("%w to user %d: %w; run this container as that user, or let it have CAP_CHOWN; proxy.uid says which user Envoy is, and consulClient.uid which the Consul client", errNotGiven, user, err)
}

// OwnerOf is the user that a file of the volume belongs to.
func OwnerOf(path string) (user int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return int(info.Sys().(*syscall.Stat_t).Uid), nil
}

// WriteJSON replaces a file of the volume with the JSON of a value.
func (v Volume) WriteJSON(path string, value any) error {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return v.Write(path, content)
}

// CopyBinary puts a copy of an executable onto the volume.
func (v Volume) CopyBinary(from string) error {
	source, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy %s to the shared volume: %w", from, err)
	}
	defer source.Close()
	return v.replace(v.Binary(), executable, func(f *os.File) error {
		_, err := io.Copy(f, source)
		return err
	})
}

// replace writes beside the file and renames. Envoy notices only a rename, and
// no reader sees half a file.
func (v Volume) replace(path string, mode fs.FileMode, write func(*os.File) error) error {
	temporary := temporaryFor(path)
	// One that was left behind may belong to another user: begin afresh.
	if err := v.Remove(temporary); err != nil {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		return v.explain("write "+path+" on", err)
	}
	err = write(f)
	if err == nil {
		err = f.Chmod(mode) // past the umask
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(v.explain("write "+path+" on", err), v.Remove(temporary))
	}
	return nil
}

// ReadJSON reads a file of the volume into value. A missing file is
// fs.ErrNotExist.
func ReadJSON(path string, value any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, value); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// explain names the volume and, for the faults that only the task definition
// can mend, what to do there.
func (v Volume) explain(action string, err error) error {
	advice := ""
	switch {
	case isFull(err):
		advice = "; the volume is full: give the task more ephemeral storage"
	case errors.Is(err, errNotGiven):
	case errors.Is(err, fs.ErrPermission), isReadOnly(err):
		advice = "; mount the volume so that this container may write to it"
	}
	return fmt.Errorf("%s the shared volume %s: %w%s", action, string(v), err, advice)
}
