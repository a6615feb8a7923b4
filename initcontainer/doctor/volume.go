package doctor

import (
	"fmt"
	"slices"
)

// leastFree is what the files that are replaced while a task runs need: both the
// old and the new one are there for a moment.
const leastFree = 64 << 10 // bytes

func (e *examination) volume() {
	found := e.Volume
	path := string(found.Path)
	if found.Err != nil {
		e.wrong(VolumeMissing, fmt.Sprintf("%s: %s", path, found.Err), "mount the volume that the init container writes to, at the path of bootstrapDir, into this container and Envoy's")
		return
	}
	room := fmt.Sprintf("%s of %s are free at %s", size(found.Free), size(found.Size), path)
	switch {
	case found.Size > 0 && found.Free < leastFree:
		e.wrong(VolumeFull, room, "find what fills it: the task's containers share it with their own files. Give the task more ephemeralStorage, or the EC2 instance more disk")
	case found.Files > 0 && found.FreeFiles == 0:
		e.wrong(VolumeFull, fmt.Sprintf("there can be no more files than %d at %s", found.Files, path), "find what makes so many files")
	default:
		e.ok("%s", room)
	}
	ours := slices.Contains([]string{initContainerName, "envoy", "consul-dataplane"}, e.Metadata.Container)
	switch {
	case found.ReadOnly && ours:
		e.wrong(VolumeUnwritable, "this container, "+e.Metadata.Container+", mounts it read-only", "remove readOnly from its mountPoints, or ReadOnly from the template: the init container and Envoy's health check write there")
	case found.ReadOnly:
		e.ok("this container mounts it read-only, as an application's should")
	case e.State.Task != nil && !found.StateOpen:
		e.wrong(VolumeUnwritable, "not everybody may write to "+found.Closed, "replace the task; see what changes modes on that volume: Envoy's health check, as Envoy's user, keeps what it knows there, and the token")
	}
}

// size is a number of bytes for a person.
func size(bytes uint64) string {
	switch {
	case bytes >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	case bytes >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(bytes)/(1<<10))
}
