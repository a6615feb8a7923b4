package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ecsmesh/e2e/pki"
	"ecsmesh/shared/login"
)

func newCA(t *testing.T) string {
	t.Helper()
	authority, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	return authority.CA
}

func newKey(t *testing.T) string {
	t.Helper()
	authority, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := authority.Issue([]string{"server.dc1.consul"})
	if err != nil {
		t.Fatal(err)
	}
	return certificate.Key
}

func readServers(variables []string, servers string) (ConsulServers, error) {
	cfg, err := Read(env(append(variables, Variable, `{"service": {"port": 80}, "consulServers": `+servers+`}`)...))
	return cfg.ConsulServers, err
}

// TestWhereTheCAComesFrom has a source win over each that follows it.
func TestWhereTheCAComesFrom(t *testing.T) {
	ca := []string{newCA(t), newCA(t), newCA(t), newCA(t)}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(ca[3]), 0o600); err != nil {
		t.Fatal(err)
	}
	own, all := []string{HTTPSCACertVariable, ca[0], GRPCCACertVariable, ca[1]}, []string{CACertVariable, ca[2]}
	byFile := fmt.Sprintf(`"defaults": {"caCertFile": %q, "tlsServerName": "consul.example.com"}`, file)
	for name, test := range map[string]struct {
		variables  []string
		servers    string
		http, grpc *TLS
	}{
		"each its own variable":       {slices.Concat(own, all), `{` + byFile + `}`, &TLS{CA: ca[0], ServerName: "consul.example.com"}, &TLS{CA: ca[1], ServerName: "consul.example.com"}},
		"one variable":                {all, `{` + byFile + `, "grpc": {"tlsServerName": "grpc.example.com"}}`, &TLS{CA: ca[2], ServerName: "consul.example.com"}, &TLS{CA: ca[2], ServerName: "grpc.example.com"}},
		"a file":                      {nil, `{` + byFile + `, "grpc": {"caCertParameter": "/ca"}}`, &TLS{CA: ca[3], ServerName: "consul.example.com"}, &TLS{CAParameter: "/ca", ServerName: "consul.example.com"}},
		"a parameter":                 {nil, `{"defaults": {"caCertParameter": "/ca"}}`, &TLS{CAParameter: "/ca"}, &TLS{CAParameter: "/ca"}},
		"a file before the parameter": {nil, fmt.Sprintf(`{"defaults": {"caCertParameter": "/ca"}, "http": {"caCertFile": %q}}`, file), &TLS{CA: ca[3]}, &TLS{CAParameter: "/ca"}},
		"none without TLS":            {all, `{"defaults": {"tls": false}}`, nil, nil},
		"one of both":                 {all, `{"http": {"https": false}}`, nil, &TLS{CA: ca[2]}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readServers(test.variables, test.servers)
			if err != nil {
				t.Fatal(err)
			}
			ports := map[bool][2]int{true: {8500, 8502}, false: {8501, 8503}}
			want := [2]Interface{{ports[test.http == nil][0], test.http}, {ports[test.grpc == nil][1], test.grpc}}
			if diff := cmp.Diff(want, [2]Interface{got.HTTP, got.GRPC}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatIsNoCAIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		variables []string
		servers   string
		want      string
	}{
		"a variable":     {[]string{CACertVariable, "no certificate"}, `{}`, CACertVariable + ": found 14 characters; it holds no certificate"},
		"a private key":  {[]string{CACertVariable, newCA(t) + newKey(t)}, `{}`, "it holds a private key"},
		"a file":         {nil, fmt.Sprintf(`{"defaults": {"caCertFile": %q}}`, file), "it holds no certificate"},
		"no such file":   {nil, `{"defaults": {"caCertFile": "/nowhere"}}`, "no such file"},
		"two of one":     {nil, `{"defaults": {"caCertFile": "/nowhere", "caCertParameter": "/ca"}}`, "keep one of them"},
		"none":           {nil, `{}`, "say which CA issued the servers' certificates"},
		"a name, no dir": {nil, `{"defaults": {"caCertFile": "."}}`, "it can't be read"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readServers(test.variables, test.servers)
			var invalid *InvalidError
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestLogin(t *testing.T) {
	for name, test := range map[string]struct {
		login string
		want  *login.Method
	}{
		"none":     {`null`, nil},
		"off":      {`{"enabled": false, "method": "mine"}`, nil},
		"defaults": {`{"enabled": true}`, &login.Method{AuthMethod: "iam-ecs-service-token", IncludeEntity: true}},
		"all": {
			`{"enabled": true, "method": "mine", "includeEntity": false, "meta": {"a": "b"}, "region": "eu-west-1", "datacenter": "dc2", "stsEndpoint": "https://sts.example.com", "serverIdHeaderValue": "prod"}`,
			&login.Method{AuthMethod: "mine", Meta: map[string]string{"a": "b"}, Region: "eu-west-1", Datacenter: "dc2", STSEndpoint: "https://sts.example.com", ServerIDHeaderValue: "prod"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Read(env(Variable, `{"service": {"port": 80}, "consulServers": {"defaults": {"tls": false}}, "consulLogin": `+test.login+`}`))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got.Login); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestWhatTLSAndLoginsCannotUse has values that would be refused later, by
// Envoy or AWS, or never, by a server that nobody names so.
func TestWhatTLSAndLoginsCannotUse(t *testing.T) {
	const tlsOff = `"consulServers": {"defaults": {"tls": false}}`
	named := func(name string) string {
		return fmt.Sprintf(`"consulServers": {"defaults": {"caCertParameter": "/ca"}, "grpc": {"tlsServerName": %q}}`, name)
	}
	for name, test := range map[string]struct{ config, want string }{
		"a URL as a server's name":     {named("https://consul.example.com"), "consulServers.grpc.tlsServerName"},
		"an address as a server's":     {named("10.0.0.1"), "consulServers.grpc.tlsServerName"},
		"another address":              {named("2001:db8::1"), "consulServers.grpc.tlsServerName"},
		"a pattern as a server's name": {named("*.dc1.consul"), "consulServers.grpc.tlsServerName"},
		"a name too long":              {named(strings.Repeat("a.", 127) + "a"), "consulServers.grpc.tlsServerName"},
		"a name of one label":          {named("consul"), ""},
		"a server's usual name":        {named("server.dc_1.consul"), ""},
		"no URL of STS":                {tlsOff + `, "consulLogin": {"enabled": true, "stsEndpoint": "sts.eu-west-1.amazonaws.com"}`, "consulLogin.stsEndpoint"},
		"a server ID with a new line":  {tlsOff + `, "consulLogin": {"enabled": true, "serverIdHeaderValue": "a\nb"}`, "consulLogin.serverIdHeaderValue"},
		"a server ID with a space":     {tlsOff + `, "consulLogin": {"enabled": true, "serverIdHeaderValue": "a b"}`, "consulLogin.serverIdHeaderValue"},
		"a user that no host has":      {tlsOff + `, "proxy": {"uid": -1}`, "proxy.uid"},
		"a user by name":               {tlsOff + `, "proxy": {"uid": "envoy"}`, "proxy.uid"},
		"no TLS, with names":           {`"consulServers": {"defaults": {"tls": false, "tlsServerName": "*"}}`, "consulServers.defaults.tlsServerName"},
		"both settings of HTTP":        {`"consulServers": {"defaults": {"tls": false}, "http": {"tls": true, "https": false}}`, "consulServers.http.tls"},
		"a CA that is no text":         {`"consulServers": {"defaults": {"tls": false, "caCertFile": ["/ca"]}}`, "consulServers.defaults.caCertFile"},
		"an unknown setting":           {`"consulServers": {"defaults": {"tls": false, "caCertPath": "/ca"}}`, "consulServers.defaults.caCertPath"},
		"a port for both":              {`"consulServers": {"defaults": {"tls": false, "port": 1}}`, "consulServers.defaults.port"},
		"https of gRPC":                {`"consulServers": {"defaults": {"tls": false}, "grpc": {"https": false}}`, "consulServers.grpc.https"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(env(Variable, `{"service": {"port": 80}, `+test.config+`}`))
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want+": found")) {
				t.Errorf("got %v, want a fault of %q", err, test.want)
			}
		})
	}
}

// TestAMisplacedTokenIsNotCited has a token where others could read it.
func TestAMisplacedTokenIsNotCited(t *testing.T) {
	const secret = "11111111-2222-3333-4444-555555555555"
	for name, test := range map[string]struct {
		variables []string
		servers   string
		want      string
	}{
		"as the name of its parameter": {nil, `{"defaults": {"tls": false}, "tokenParameter": "` + secret + `"}`, "consulServers.tokenParameter"},
		"with something else":          {[]string{TokenVariable, "token: " + secret}, `{"defaults": {"tls": false}}`, TokenVariable},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readServers(test.variables, test.servers)
			if err == nil || !strings.Contains(err.Error(), test.want+": found") || strings.Contains(err.Error(), secret) {
				t.Errorf("got %v, want a fault of %s", err, test.want)
			}
		})
	}
}

func TestTokensInClearAreWarnedOf(t *testing.T) {
	for _, config := range []string{
		`"consulServers": {"defaults": {"tls": false}, "tokenParameter": "/token"}`,
		`"consulServers": {"defaults": {"caCertParameter": "/ca"}, "grpc": {"tls": false}}, "consulLogin": {"enabled": true}`,
	} {
		got, err := Read(env(Variable, `{"service": {"port": 80}, `+config+`}`))
		if err != nil || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "in clear") {
			t.Errorf("%s: %v, %v", config, got.Warnings, err)
		}
	}
}

func TestATaskHasOneSourceOfTokens(t *testing.T) {
	const secret = "11111111-2222-3333-4444-555555555555"
	for name, config := range map[string]string{
		"a parameter":             `"consulServers": {"defaults": {"tls": false}, "tokenParameter": "/token"}`,
		"a login":                 `"consulServers": {"defaults": {"tls": false}}, "consulLogin": {"enabled": true}`,
		"a parameter and a login": `"consulServers": {"defaults": {"tls": false}, "tokenParameter": "/token"}, "consulLogin": {"enabled": true}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(env(TokenVariable, secret, Variable, `{"service": {"port": 80}, `+config+`}`))
			if err == nil || !strings.Contains(err.Error(), "keep one of them") || strings.Contains(err.Error(), secret) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestATokenDoesNotShow(t *testing.T) {
	got, err := readServers([]string{TokenVariable, " secret\n"}, `{"defaults": {"tls": false}}`)
	if err != nil || string(got.Token) != "secret" {
		t.Fatalf("got %q, %v", string(got.Token), err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("", "servers", got, "token", got.Token)
	asJSON, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", got, got, got, got.Token), string(asJSON), log.String()} {
		if strings.Contains(strings.ReplaceAll(text, hidden, ""), "secret") {
			t.Errorf("it shows in %s", text)
		}
	}
}
