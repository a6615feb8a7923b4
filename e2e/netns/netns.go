//go:build linux

// Package netns gives a test networks of its own, as tasks on EC2 have them:
// namespaces with an address each, on one bridge. It needs root.
package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bits is the size of the network that all are in.
const bits = 16

// dialTimeout is long for a network without wires.
const dialTimeout = 3 * time.Second

// Namespace is a network namespace, which is there until the test ends.
type Namespace struct {
	Address netip.Addr

	handle *os.File
	work   chan func() // is done on a thread that is in it
}

// VPC is a namespace with a bridge, to which others are connected.
type VPC struct{ Namespace }

// Start makes a VPC that has a gateway at an address, and others on its loopback
// interface.
func Start(t testing.TB, gateway netip.Addr, more ...netip.Addr) *VPC {
	t.Helper()
	v := &VPC{enter(t, gateway)}
	v.must(t, func() error {
		// A hardware address that stays: the kernel's own choice changes with what
		// is connected, and neighbours go on sending to the old one for seconds.
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "vpc", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}}
		if err := netlink.LinkAdd(bridge); err != nil {
			return err
		}
		loopback, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		for _, addr := range more {
			if err := addAddress(loopback, addr, addr.BitLen()); err != nil {
				return err
			}
		}
		return up(bridge, gateway)
	})
	return v
}

// Connect makes a namespace with an address in the VPC.
func (v *VPC) Connect(t testing.TB, addr netip.Addr) *Namespace {
	t.Helper()
	n := enter(t, addr)
	v.must(t, func() error {
		bridge, err := netlink.LinkByName("vpc")
		if err != nil {
			return err
		}
		port := &netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: "to" + fmt.Sprintf("%x", addr.As4()), MasterIndex: bridge.Attrs().Index},
			PeerName:      "eth0",
			PeerNamespace: netlink.NsFd(n.handle.Fd()),
		}
		if err := netlink.LinkAdd(port); err != nil {
			return err
		}
		return netlink.LinkSetUp(port)
	})
	n.must(t, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := up(eth0, addr); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: v.Address.AsSlice()})
	})
	return &n
}

// enter makes a namespace, and a thread that stays in it: the kernel ends
// processes with the thread that started them, where that is asked for.
func enter(t testing.TB, addr netip.Addr) Namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces: run it as root")
	}
	n := Namespace{Address: addr, work: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with this
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.handle, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
		for f := range n.work {
			f()
		}
	}()
	t.Cleanup(func() { close(n.work) })
	if err := <-made; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { _ = n.handle.Close() })
	n.must(t, func() error {
		loopback, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(loopback)
	})
	return n
}

func up(link netlink.Link, addr netip.Addr) error {
	if err := addAddress(link, addr, bits); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func addAddress(link netlink.Link, addr netip.Addr, bits int) error {
	return netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}})
}

// Do does something inside of the namespace: what it listens on, and the
// programs that it starts, stay in there.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error)
	n.work <- func() { done <- f() }
	return <-done
}

func (n *Namespace) must(t testing.TB, f func() error) {
	t.Helper()
	if err := n.Do(f); err != nil {
		t.Fatalf("set up the network at %s: %v", n.Address, err)
	}
}

// Aside does something inside of the namespace, on a thread of its own that f
// may change in any way: its user, its capabilities, its root.
func (n *Namespace) Aside(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock
		err := unix.Setns(int(n.handle.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// Dial opens a TCP connection from within, as a user of that number.
func (n *Namespace) Dial(user int, addr string) (conn net.Conn, err error) {
	err = n.Aside(func() error {
		// The thread alone, as package syscall wouldn't.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(user), uintptr(user), uintptr(user)); errno != 0 {
			return errno
		}
		conn, err = net.DialTimeout("tcp4", addr, dialTimeout)
		return err
	})
	return conn, err
}
