package ecs

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"
)

// A container has a file system of its own in ECS; a process on a host does
// not. So the path at which a volume is mounted is replaced by the volume's
// folder wherever a container can name it: in its command line, its
// environment and its health check.

// mount is a volume's folder on this host and the path that containers know
// it by.
type mount struct{ path, folder string }

// mountsOf lists a container's mounts, longest path first, so that a volume
// mounted inside another one wins.
func mountsOf(points []MountPoint, volumes string) []mount {
	var mounts []mount
	for _, p := range points {
		if path := strings.TrimRight(p.Path, "/"); path != "" {
			mounts = append(mounts, mount{path, filepath.Join(volumes, p.Volume)})
		}
	}
	slices.SortFunc(mounts, func(a, b mount) int { return cmp.Compare(len(b.path), len(a.path)) })
	return mounts
}

// rebase replaces a mount's path by its folder where the path stands as a
// whole, or as the leading folders of a longer path, also within JSON or
// after a "=". It leaves a path alone that merely contains the same letters:
// with /data, neither /database nor /var/data changes.
func rebase(s string, mounts []mount) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		m := mountAt(s, i, mounts)
		if m == nil {
			b.WriteByte(s[i])
			i++
			continue
		}
		b.WriteString(m.folder)
		i += len(m.path)
	}
	return b.String()
}

func mountAt(s string, i int, mounts []mount) *mount {
	if s[i] != '/' || i > 0 && isPathByte(s[i-1]) {
		return nil
	}
	for k, m := range mounts {
		rest, ok := strings.CutPrefix(s[i:], m.path)
		if ok && (rest == "" || rest[0] == '/' || !isPathByte(rest[0])) {
			return &mounts[k]
		}
	}
	return nil
}

func isPathByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/._-", c) >= 0
}

func rebaseAll(list []string, mounts []mount) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = rebase(s, mounts)
	}
	return out
}
