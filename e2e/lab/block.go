package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// ecsPort is where a lab's ECS listens, on the first address of its block.
const ecsPort = 51678

// claimBlock takes 65,536 loopback addresses for one lab, which gives each
// task one of its own, as a VPC would. The claim is the socket at the block's
// first address: it lasts as long as the socket, and a second lab on this
// host finds it taken and looks further.
func claimBlock() (netip.Prefix, net.Listener, error) {
	const first, blocks = 64, 160 // away from 127.0.x.y, which others use
	offset := rand.IntN(blocks)
	for i := range blocks {
		base := netip.AddrFrom4([4]byte{127, byte(first + (offset+i)%blocks), 0, 0})
		listener, err := net.Listen("tcp4", net.JoinHostPort(base.Next().String(), strconv.Itoa(ecsPort)))
		switch {
		case err == nil:
			return netip.PrefixFrom(base, 16), listener, nil
		case !errors.Is(err, syscall.EADDRINUSE):
			return netip.Prefix{}, nil, fmt.Errorf("claim loopback addresses: %w", err)
		}
	}
	return netip.Prefix{}, nil, errors.New("claim loopback addresses: all blocks are taken by other labs")
}
