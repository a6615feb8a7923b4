package access

import (
	"strings"
	"testing"

	"ecsmesh/e2e/pki"
	"ecsmesh/shared/environment"

	"github.com/google/go-cmp/cmp"
)

func authorityOf(t *testing.T) *pki.Authority {
	t.Helper()
	authority, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func TestSettings(t *testing.T) {
	ca := authorityOf(t).CA
	for name, test := range map[string]struct {
		variables map[string]string
		want      Settings
		port      int
	}{
		"nothing":          {map[string]string{}, Settings{}, 8500},
		"a port":           {map[string]string{"CONSUL_HTTP_PORT": "80"}, Settings{HTTPPort: 80}, 80},
		"empty is nothing": {map[string]string{"CONSUL_HTTP_PORT": "", "CONSUL_HTTP_SSL": "", "CONSUL_CACERT_PEM": ""}, Settings{}, 8500},
		"TLS":              {map[string]string{"CONSUL_HTTP_SSL": "true", "CONSUL_CACERT_PEM": ca}, Settings{HTTPSSL: true, CACertPEM: ca}, 8501},
		"everything": {
			map[string]string{
				"CONSUL_HTTP_PORT": "443", "CONSUL_HTTP_SSL": "1", "CONSUL_CACERT_PARAMETER": "/consul/ca", "CONSUL_TLS_SERVER_NAME": "consul.example.com",
				"CONSUL_LOGIN_METHOD": "ecsmesh-functions", "CONSUL_LOGIN_SERVER_ID": "prod", "CONSUL_PARTITION": "east",
			},
			Settings{
				HTTPPort: 443, HTTPSSL: true, CACertParameter: "/consul/ca", TLSServerName: "consul.example.com",
				LoginMethod: "ecsmesh-functions", LoginServerID: "prod", Partition: "east",
			},
			443,
		},
		"a login in clear": {map[string]string{"CONSUL_LOGIN_METHOD": "lab"}, Settings{LoginMethod: "lab"}, 8500},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := environment.Parse[Settings](test.variables)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.Port() != test.port {
				t.Errorf("the port is %d, want %d", got.Port(), test.port)
			}
		})
	}
}

func TestSettingsThatDoNotGoTogether(t *testing.T) {
	ca := authorityOf(t).CA
	for name, test := range map[string]struct {
		settings Settings
		want     []string
	}{
		"TLS without a CA": {Settings{HTTPSSL: true}, []string{"CONSUL_HTTP_SSL is true, so CONSUL_CACERT_PEM or CONSUL_CACERT_PARAMETER must be set"}},
		"two CAs":          {Settings{HTTPSSL: true, CACertPEM: ca, CACertParameter: "/ca"}, []string{"CONSUL_CACERT_PEM and CONSUL_CACERT_PARAMETER are set: set one of them"}},
		"no CA in the PEM": {Settings{HTTPSSL: true, CACertPEM: "/etc/ca.pem"}, []string{"CONSUL_CACERT_PEM is no CA: it holds no certificate in PEM"}},
		"a CA without TLS": {Settings{CACertPEM: ca}, []string{"CONSUL_CACERT_PEM is set, so CONSUL_HTTP_SSL must be true"}},
		"all without TLS": {Settings{CACertParameter: "/ca", TLSServerName: "consul"}, []string{
			"CONSUL_CACERT_PARAMETER is set, so CONSUL_HTTP_SSL must be true",
			"CONSUL_TLS_SERVER_NAME is set, so CONSUL_HTTP_SSL must be true",
		}},
		"a server ID without a login": {Settings{LoginServerID: "prod"}, []string{"CONSUL_LOGIN_SERVER_ID is set, so CONSUL_LOGIN_METHOD must be too"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.settings.Validate()
			if err == nil || err.Error() != strings.Join(test.want, "\n") {
				t.Errorf("got  %v\nwant %s", err, strings.Join(test.want, "\n"))
			}
		})
	}
}
