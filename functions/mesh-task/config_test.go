package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ecsmesh/functions/mesh-task/expand"
	"ecsmesh/functions/mesh-task/meshtask"
	"ecsmesh/shared/environment"
)

func TestWhatTheStackSays(t *testing.T) {
	for name, test := range map[string]struct {
		variables map[string]string
		want      expand.Input
		fault     string
	}{
		"the least": {map[string]string{"INIT_IMAGE": "i", "CONSUL_HTTP_PORT": "8500"}, expand.Input{Defaults: meshtask.Defaults{InitImage: "i"}}, ""},
		"everything": {
			map[string]string{
				"INIT_IMAGE": "i", "ENVOY_IMAGE": "e", "SERVERS_PARAMETER": "/s", "CONSUL_HTTP_PORT": "443", "CONSUL_HTTP_SSL": "true",
				"CONSUL_CACERT_PARAMETER": "/ca", "CONSUL_CACERT_SECRET_ARN": "arn", "CONSUL_TLS_SERVER_NAME": "n", "CONSUL_PARTITION": "p",
				"CONSUL_LOGIN_METHOD": "m", "CONSUL_LOGIN_SERVER_ID": "here", "STS_ENDPOINT": "https://sts",
			},
			expand.Input{HTTPPort: 443, Partition: "p", Defaults: meshtask.Defaults{
				InitImage: "i", EnvoyImage: "e", ServersParameter: "/s", TLS: true, CAParameter: "/ca", CASecretARN: "arn", TLSServerName: "n",
				Login: true, LoginMethod: "m", LoginServerID: "here", STSEndpoint: "https://sts",
			}},
			"",
		},
		"TLS at its usual port": {
			map[string]string{"INIT_IMAGE": "i", "CONSUL_HTTP_PORT": "8501", "CONSUL_HTTP_SSL": "true", "CONSUL_CACERT_PARAMETER": "/ca"},
			expand.Input{Defaults: meshtask.Defaults{InitImage: "i", TLS: true, CAParameter: "/ca"}}, "",
		},
		"nothing": {map[string]string{"CONSUL_HTTP_SSL": "true"}, expand.Input{Defaults: meshtask.Defaults{TLS: true}},
			"CONSUL_HTTP_SSL is true, so CONSUL_CACERT_PARAMETER must be set"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := environment.Parse[config](test.variables)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, cfg.input()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			fault := ""
			if err := cfg.check(); err != nil {
				fault = err.Error()
			}
			if fault != test.fault {
				t.Errorf("got %q, want %q", fault, test.fault)
			}
		})
	}
}
