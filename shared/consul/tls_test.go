package consul

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/pki"
)

// ask has a server say who leads, for which no token is needed.
func ask(t *testing.T, s *Servers) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return s.Do(ctx, func(ctx context.Context, client *api.Client) error {
		_, err := client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
		return err
	})
}

func TestServersAreKnownByTheirCertificate(t *testing.T) {
	server, other := consultest.StartSecure(t), consultest.Start(t)
	another, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		server *consultest.Server
		port   int
		tls    *TLS
		want   string // of the error; "" is none
	}{
		"any datacenter's name": {server, consultest.HTTPSPort, &TLS{CA: server.CA}, ""},
		"its name":              {server, consultest.HTTPSPort, &TLS{CA: server.CA, ServerName: ServerName("dc1")}, ""},
		"one CA of two":         {server, consultest.HTTPSPort, &TLS{CA: another.CA + server.CA}, ""},
		"a wrong CA":            {server, consultest.HTTPSPort, &TLS{CA: another.CA}, "certificate signed by unknown authority"},
		"a wrong CA and name":   {server, consultest.HTTPSPort, &TLS{CA: another.CA, ServerName: ServerName("dc1")}, "certificate signed by unknown authority"},
		"a wrong name":          {server, consultest.HTTPSPort, &TLS{CA: server.CA, ServerName: ServerName("dc2")}, "not server.dc2.consul"},
		"plaintext to TLS":      {server, consultest.HTTPSPort, nil, "HTTP request to an HTTPS server"},
		"TLS to plaintext":      {other, consultest.HTTPPort, &TLS{CA: server.CA}, "HTTP response to HTTPS client"},
	} {
		t.Run(name, func(t *testing.T) {
			s := servers(t, []netip.Addr{test.server.Addr}, Options{Port: test.port, TLS: test.tls})
			err := ask(t, s)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			case test.want != "" && (!Permanent(err) || errors.Is(err, ErrNoAnswer)):
				t.Errorf("tried again in vain: %v", err)
			}
		})
	}
}

// TestOnlyServersNamesAreServers has certificates of the servers' own CA.
func TestOnlyServersNamesAreServers(t *testing.T) {
	for name, is := range map[string]bool{
		"server.dc1.consul": true, "server.eu-west.consul": true,
		"client.dc1.consul": false, "server.consul": false, "server.*.consul": false, "server..consul": false,
		"server.dc1.example": false, "a.server.dc1.consul": false, "localhost": false,
	} {
		if isServerName(name) != is {
			t.Errorf("%s: taken for a server's name: %v", name, !is)
		}
	}
}

func TestACAIsNeeded(t *testing.T) {
	for _, ca := range []string{"", "no certificate"} {
		if _, err := NewServers(three, Options{Port: 8501, TLS: &TLS{CA: ca}}); err == nil || !strings.Contains(err.Error(), "no certificate in PEM") {
			t.Errorf("%q: got %v", ca, err)
		}
	}
}

// TestOneServerOfSeveralIsNotTrusted has the others asked.
func TestOneServerOfSeveralIsNotTrusted(t *testing.T) {
	good, impostor := consultest.StartSecure(t), consultest.StartSecure(t)
	s := servers(t, []netip.Addr{impostor.Addr, good.Addr}, Options{Port: consultest.HTTPSPort, TLS: &TLS{CA: good.CA}})
	for range 4 {
		s.next.Store(0)
		if err := ask(t, s); err != nil {
			t.Error(err)
		}
	}
}

// TestANewTokenIsWaitedFor has servers that don't know a token for a while.
func TestANewTokenIsWaitedFor(t *testing.T) {
	unknown := api.StatusError{Code: 403, Body: "ACL not found"}
	for name, test := range map[string]struct {
		age      time.Duration
		attempts int
	}{
		"a new one":   {0, 4},
		"an old one":  {time.Minute, 1},
		"none at all": {-1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := servers(t, three, Options{Port: 8500})
				if test.age >= 0 {
					s.UseToken("secret", time.Now().Add(-test.age))
				}
				attempts := 0
				err := s.Do(t.Context(), func(context.Context, *api.Client) error {
					if attempts++; attempts < 4 {
						return unknown
					}
					return nil
				})
				if attempts != test.attempts || (err == nil) != (attempts == 4) || err != nil && !TokenUnknown(err) {
					t.Errorf("%d attempts, %v", attempts, err)
				}
			})
		})
	}
}

func TestTheTokenGoesWithEveryRequest(t *testing.T) {
	server := consultest.StartSecure(t)
	s := servers(t, []netip.Addr{server.Addr}, Options{Port: consultest.HTTPSPort, TLS: &TLS{CA: server.CA}})
	self := func(options *api.QueryOptions) error {
		return s.Do(t.Context(), func(ctx context.Context, client *api.Client) error {
			_, _, err := client.ACL().TokenReadSelf(options.WithContext(ctx))
			return err
		})
	}
	t.Setenv("CONSUL_HTTP_TOKEN", server.Token)
	s = servers(t, []netip.Addr{server.Addr}, Options{Port: consultest.HTTPSPort, TLS: &TLS{CA: server.CA}})
	if err := self(&api.QueryOptions{}); err == nil {
		t.Error("a token of the environment was used")
	}
	s.UseToken(server.Token, time.Now())
	if err := self(&api.QueryOptions{}); err != nil {
		t.Error(err)
	}
	s.UseToken("11111111-2222-3333-4444-555555555555", time.Time{})
	if err := self(&api.QueryOptions{}); !TokenUnknown(err) {
		t.Errorf("got %v, want that the token is unknown", err)
	}
	if err := self(&api.QueryOptions{Token: server.Token}); err != nil {
		t.Errorf("the token that a request names wasn't used: %v", err)
	}
}
