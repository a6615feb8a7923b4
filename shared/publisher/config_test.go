package publisher

import (
	"log/slog"
	"strings"
	"testing"

	"ecsmesh/shared/environment"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
)

// embedding is how a function uses a Config.
type embedding struct {
	Config
	LogLevel slog.Level `env:"LOG_LEVEL" envDefault:"INFO" want:"DEBUG, INFO, WARN or ERROR"`
}

func TestConfig(t *testing.T) {
	for name, test := range map[string]struct {
		variables map[string]string
		want      Config
	}{
		"ECS": {
			map[string]string{"CONSUL_SERVER_CLUSTER": "consul", "CONSUL_SERVER_SERVICE": "consul-server"},
			Config{Cluster: "consul", Service: "consul-server"},
		},
		"seeds": {
			map[string]string{"CONSUL_SEED_ADDRESSES": "10.0.1.10, 2001:db8::a,consul.example.com"},
			Config{SeedAddresses: Seeds{"10.0.1.10", "2001:db8::a", "consul.example.com"}},
		},
		"empty is absent": {
			map[string]string{"CONSUL_SERVER_CLUSTER": "consul", "CONSUL_SERVER_SERVICE": "consul-server", "CONSUL_SEED_ADDRESSES": ""},
			Config{Cluster: "consul", Service: "consul-server"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.variables["SERVERS_PARAMETER"], test.want.ServersParameter = "/ecsmesh/consul-servers", "/ecsmesh/consul-servers"
			got, err := environment.Parse[embedding](test.variables)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(embedding{Config: test.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			_, seeded := New(got.Config, aws.Config{}, nil, nil, nil, nil).source.(*seedServers)
			if seeded != (name == "seeds") {
				t.Errorf("the servers are found by seeds: %v", seeded)
			}
		})
	}
}

func TestConfigReportsAllFaultsAtOnce(t *testing.T) {
	_, err := environment.Parse[embedding](map[string]string{
		"CONSUL_SEED_ADDRESSES": "10.0.1.10:8500", "LOG_LEVEL": "CHATTY",
	})
	want := "read configuration from the environment: SERVERS_PARAMETER is not set" +
		`; CONSUL_SEED_ADDRESSES is "10.0.1.10:8500", want IP addresses or DNS names, separated by commas, without ports` +
		`; LOG_LEVEL is "CHATTY", want DEBUG, INFO, WARN or ERROR`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestSeeds(t *testing.T) {
	for text, valid := range map[string]bool{
		"10.0.1.10":   true,
		"2001:db8::a": true,
		"localhost":   true,
		"consul-server.consul.svc.cluster.local.": true,
		"_dns.ec2-10-0-1-10.internal":             true,
		"10.0.1.10, 10.0.2.10":                    true,
		"10.0.1.999":                              false,
		"10.0.1":                                  false,
		"10.0.1.10:8500":                          false,
		"[2001:db8::a]":                           false,
		"consul.example.com:8500":                 false,
		"http://consul.example.com":               false,
		"10.0.1.10,":                              false,
		"10.0.1.10 10.0.2.10":                     false,
		"-":                                       false,
	} {
		var seeds Seeds
		if err := seeds.UnmarshalText([]byte(text)); (err == nil) != valid {
			t.Errorf("%q: got %v, %v; want it taken: %v", text, seeds, err, valid)
		}
	}
}

func TestConfigWantsOneSource(t *testing.T) {
	const (
		cluster = "CONSUL_SERVER_CLUSTER"
		service = "CONSUL_SERVER_SERVICE"
		seeds   = "CONSUL_SEED_ADDRESSES"
	)
	for name, test := range map[string]struct {
		config Config
		names  []string
	}{
		"none":               {Config{}, []string{cluster, service, seeds}},
		"the cluster alone":  {Config{Cluster: "consul"}, []string{cluster, service}},
		"the service alone":  {Config{Service: "consul-server"}, []string{cluster, service}},
		"both":               {Config{Cluster: "consul", Service: "consul-server", SeedAddresses: Seeds{"10.0.1.10"}}, []string{cluster, service, seeds}},
		"seeds in a cluster": {Config{Cluster: "consul", SeedAddresses: Seeds{"10.0.1.10"}}, []string{cluster, service, seeds}},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.config.Validate()
			if err == nil {
				t.Fatal("no error")
			}
			for _, name := range test.names {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%q does not name %s", err, name)
				}
			}
		})
	}
}
