package volume

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrLocked is returned while another process holds the lock.
var ErrLocked = errors.New("locked by another run")

// TryLock takes the lock that only one run of check has at a time, without
// waiting. The kernel frees it with the process, however that ends.
func (v Volume) TryLock() (unlock func(), err error) {
	f, err := os.Open(v.Lock())
	if err != nil {
		return nil, v.explain("lock", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", v.Lock(), err)
	}
	return func() { _ = f.Close() }, nil
}
