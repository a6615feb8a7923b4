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
		"a variable":     {[]string{CACertVariable, "no certificate"}, `{}`, CACertVariable + ": found 14 characters without a certificate"},
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
