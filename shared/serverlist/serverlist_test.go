package serverlist_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"ecsmesh/shared/parameter"
	"ecsmesh/shared/serverlist"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func addrs(values ...string) []netip.Addr {
	var result []netip.Addr
	for _, value := range values {
		result = append(result, netip.MustParseAddr(value))
	}
	return result
}

func TestParse(t *testing.T) {
	for value, want := range map[string][]netip.Addr{
		"10.0.1.10":                       addrs("10.0.1.10"),
		"10.0.1.10,10.0.2.10":             addrs("10.0.1.10", "10.0.2.10"),
		" 10.0.1.10 , 10.0.2.10\n":        addrs("10.0.1.10", "10.0.2.10"),
		"2001:db8::a,10.0.1.10":           addrs("2001:db8::a", "10.0.1.10"),
		"2001:0db8:0000:0000:0000::000a ": addrs("2001:db8::a"),
	} {
		got, err := serverlist.Parse(value)
		if err != nil {
			t.Errorf("%q: %v", value, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", value, diff)
		}
	}
}

func TestParseNamesEveryFault(t *testing.T) {
	for value, want := range map[string][]string{
		"":                           {`""`},
		"10.0.1.10,":                 {`""`},
		"consul.example,10.0.1.10,x": {`"consul.example"`, `"x"`},
		"10.0.1.10:8500":             {`"10.0.1.10:8500"`},
		"10.0.1.0/24":                {`"10.0.1.0/24"`},
		"010.0.1.10":                 {`"010.0.1.10"`},
	} {
		_, err := serverlist.Parse(value)
		if err == nil {
			t.Errorf("%q: no error", value)
			continue
		}
		for _, fault := range want {
			if !strings.Contains(err.Error(), fault) {
				t.Errorf("%q: %q does not name %s", value, err, fault)
			}
		}
	}
}

func TestFormatIsTheSameForTheSameSet(t *testing.T) {
	const want = "10.0.1.10,10.0.2.10,10.0.10.10,2001:db8::a"
	for _, set := range [][]netip.Addr{
		addrs("10.0.1.10", "10.0.2.10", "10.0.10.10", "2001:db8::a"),
		addrs("2001:db8::a", "10.0.10.10", "10.0.2.10", "10.0.1.10", "10.0.2.10"),
	} {
		before := fmt.Sprint(set)
		if got := serverlist.Format(set); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if after := fmt.Sprint(set); after != before {
			t.Errorf("Format changed its argument from %s to %s", before, after)
		}
	}
}

// fakeStore is Parameter Store.
type fakeStore struct {
	values map[string]string
	puts   int
	err    error
}

var _ serverlist.Store = (*fakeStore)(nil)

func (f *fakeStore) Get(_ context.Context, name string) (string, error) {
	value, ok := f.values[name]
	if f.err == nil && !ok {
		return "", parameter.ErrNotFound
	}
	return value, f.err
}

func (f *fakeStore) PutList(_ context.Context, name, value, _ string) error {
	if f.err == nil {
		f.values[name] = value
		f.puts++
	}
	return f.err
}

const name = "/ecsmesh/consul-servers"

func TestParameterGoesThroughItsLife(t *testing.T) {
	store := &fakeStore{values: map[string]string{}}
	list := serverlist.New(store, name)
	if _, err := list.Read(t.Context()); !errors.Is(err, serverlist.ErrNotPublished) {
		t.Errorf("before the first write: got %v, want ErrNotPublished", err)
	}
	for _, servers := range [][]netip.Addr{addrs("10.0.1.10", "10.0.2.10"), addrs("10.0.3.10")} {
		if err := list.Write(t.Context(), servers); err != nil {
			t.Fatal(err)
		}
		got, err := list.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(servers, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("read after write (-want +got):\n%s", diff)
		}
	}
}

func TestWriteRefusesWhatNobodyCouldUse(t *testing.T) {
	var many []netip.Addr
	for n := range 400 {
		many = append(many, netip.AddrFrom4([4]byte{10, 100, byte(n >> 8), byte(n)}))
	}
	for fault, servers := range map[string][]netip.Addr{
		"the list of servers is empty": nil,
		"the 400 addresses take":       many,
	} {
		store := &fakeStore{values: map[string]string{}}
		err := serverlist.New(store, name).Write(t.Context(), servers)
		if err == nil || !strings.Contains(err.Error(), fault) || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want an error with %q and the parameter's name", err, fault)
		}
		if store.puts != 0 {
			t.Errorf("%s, and was written all the same", fault)
		}
	}
}

func TestErrorsKeepTheirCause(t *testing.T) {
	throttled := errors.New("ThrottlingException")
	list := serverlist.New(&fakeStore{err: throttled}, name)
	if _, err := list.Read(t.Context()); !errors.Is(err, throttled) || errors.Is(err, serverlist.ErrNotPublished) {
		t.Errorf("read: got %v", err)
	}
	if err := list.Write(t.Context(), addrs("10.0.1.10")); !errors.Is(err, throttled) {
		t.Errorf("write: got %v", err)
	}
	list = serverlist.New(&fakeStore{values: map[string]string{name: "consul.example"}}, name)
	if _, err := list.Read(t.Context()); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("unreadable value: got %v, want an error with the parameter's name", err)
	}
}
