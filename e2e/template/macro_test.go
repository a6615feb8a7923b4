package template

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The macro's function is told what tasks need, and not what functions do.
func TestTheMacroKnowsTheMesh(t *testing.T) {
	e := startEmulator(t)
	for _, test := range []struct {
		name   string
		params map[string]string
		want   map[string]string
	}{
		{"plain", withMacro, map[string]string{"CONSUL_HTTP_SSL": "false", "CONSUL_CACERT_SECRET_ARN": "", "CONSUL_LOGIN_METHOD": "", "STS_ENDPOINT": ""}},
		{
			"with TLS and ACLs",
			with(withMacro, withTLS, withACLs, map[string]string{
				"EnvoyImage": "envoyproxy/envoy:distroless-v1.35.0", "LoginServerId": "here", "StsEndpoint": "https://sts.eu-west-1.amazonaws.com",
				"ConsulCaSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:consul-ca-a1B2c3",
			}),
			map[string]string{
				"INIT_IMAGE": withMacro["InitImage"], "ENVOY_IMAGE": "envoyproxy/envoy:distroless-v1.35.0",
				"CONSUL_HTTP_SSL": "true", "CONSUL_CACERT_PARAMETER": "/ecsmesh/consul-ca",
				"CONSUL_CACERT_SECRET_ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:consul-ca-a1B2c3",
				"CONSUL_LOGIN_METHOD":      "iam-ecs-service-token", "CONSUL_LOGIN_SERVER_ID": "here", "STS_ENDPOINT": "https://sts.eu-west-1.amazonaws.com",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			outputs, err := deployTo(t, e, nil, with(inECS, test.params))
			if err != nil {
				t.Fatal(err)
			}
			if outputs["MeshTaskMacro"] != "EcsMesh" {
				t.Errorf("the outputs are %v", outputs)
			}
			variables := configuration(t, e, outputs["MeshTaskFunction"]).Environment.Variables
			got := map[string]string{}
			for name := range test.want {
				got[name] = variables[name]
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("the function's environment (-want +got):\n%s", diff)
			}
		})
	}
}
