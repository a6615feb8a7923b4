package envoy

import (
	"encoding/json"
	"errors"

	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/consul"
)

// tokenSecret is Envoy's name for its ACL token.
const tokenSecret = "consul_token"

// Token is the file from which Envoy reads its ACL token, in Envoy's secret
// discovery format: one that is replaced is used from the next stream on.
func Token(secret string) ([]byte, error) {
	return json.MarshalIndent(tokenFile{[]tokenResource{{
		Type: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
		Name: tokenSecret,
		GenericSecret: genericSecret{dataSource{
			InlineString: secret,
		}},
	}}}, "", "  ")
}

// Secret is the token in a file of Token.
func Secret(file []byte) (string, error) {
	var content tokenFile
	if err := json.Unmarshal(file, &content); err != nil {
		return "", errors.New("it is no list of secrets") // an error of the package would cite them
	}
	if len(content.Resources) != 1 || content.Resources[0].GenericSecret.Secret.InlineString == "" {
		return "", errors.New("it has no token")
	}
	return content.Resources[0].GenericSecret.Secret.InlineString, nil
}

type tokenFile struct {
	Resources []tokenResource `json:"resources"`
}

type tokenResource struct {
	Type          string        `json:"@type"`
	Name          string        `json:"name"`
	GenericSecret genericSecret `json:"generic_secret"`
}

type genericSecret struct {
	Secret dataSource `json:"secret"`
}

type dataSource struct {
	InlineString string `json:"inline_string"`
}

// wantsNewer is the name of the filter that needs the newest Envoy of all that
// is in the bootstrap: the credential injector, for requests of Envoy's own. An
// older Envoy names it in the one line with which it ends. To others the name
// means nothing: they know filters by their types.
const wantsNewer = "ACL tokens of Consul, which need Envoy 1.34 or newer"

// tokenFilters have every stream to Consul carry the token as it is when the
// stream begins. Without a token there is no stream.
func tokenFilters(v volume.Volume) []any {
	return []any{
		object{
			"name": wantsNewer,
			"typed_config": object{
				"@type":     "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
				"overwrite": true,
				"credential": object{
					"name": "envoy.http.injected_credentials.generic",
					"typed_config": object{
						"@type":  "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic",
						"header": "x-consul-token",
						"credential": object{
							"name": tokenSecret,
							"sds_config": object{
								"resource_api_version": "V3",
								"path_config_source": object{
									"path":              v.Token(),
									"watched_directory": object{"path": v.Live()},
								},
							},
						},
					},
				},
			},
		},
		object{
			"name":         "envoy.filters.http.upstream_codec",
			"typed_config": object{"@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"},
		},
	}
}

// serversTLS has Envoy talk only to who has the servers' name in a certificate
// of the CA.
func serversTLS(tls consul.TLS) object {
	return object{
		"name": "envoy.transport_sockets.tls",
		"typed_config": object{
			"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
			"sni":   tls.ServerName,
			"common_tls_context": object{
				"tls_params": object{"tls_minimum_protocol_version": "TLSv1_2"},
				"validation_context": object{
					"trusted_ca": object{"inline_string": tls.CA},
					"match_typed_subject_alt_names": []any{object{
						"san_type": "DNS",
						"matcher":  object{"exact": tls.ServerName},
					}},
				},
			},
		},
	}
}
