package serverlist_test

import (
	"net/netip"
	"slices"
	"testing"

	"ecsmesh/shared/serverlist"
)

func FuzzParse(f *testing.F) {
	for _, value := range []string{
		"10.0.1.10,10.0.2.10,10.0.3.10", "10.0.1.10", " 10.0.1.10 ,\t10.0.1.10\n", "2001:db8::a,10.0.1.10", "::ffff:10.0.1.10,10.0.1.10",
		"fe80::1%eth0,fe80::1%eth1", "", ",", "10.0.1.10,", "none", "10.0.1.10:8500", "010.0.1.10", "consul.example", "0.0.0.0", "[::1]", "10.0.1.10\x00",
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		addrs, err := serverlist.Parse(value)
		if err != nil {
			return
		}
		if len(addrs) == 0 {
			t.Fatal("no address, and no error")
		}
		for _, addr := range addrs {
			if !addr.IsValid() {
				t.Errorf("an address that is none, in %v", addrs)
			}
		}
		formatted := serverlist.Format(addrs)
		again, err := serverlist.Parse(formatted)
		if err != nil {
			t.Fatalf("%q, which was written, can't be read: %v", formatted, err)
		}
		slices.SortFunc(addrs, netip.Addr.Compare)
		if want := slices.Compact(addrs); !slices.Equal(want, again) {
			t.Errorf("written and read again: %v, want %v", again, want)
		}
		if twice := serverlist.Format(again); twice != formatted {
			t.Errorf("the same set is written as %q and as %q", formatted, twice)
		}
	})
}
