package publisher

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"

	"ecsmesh/shared/dryrun"
	"ecsmesh/shared/metrics"
	"ecsmesh/shared/parameter"
	"ecsmesh/shared/serverlist"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
)

// Config is the part of a function's environment that says where the servers
// are found and where their list is kept. It is made to be embedded in the
// function's own; see environment.Parse.
type Config struct {
	ServersParameter string `env:"SERVERS_PARAMETER,required,notEmpty"` // name of the SSM parameter
	Cluster          string `env:"CONSUL_SERVER_CLUSTER"`               // name or ARN
	Service          string `env:"CONSUL_SERVER_SERVICE"`               // name of the ECS service
	SeedAddresses    Seeds  `env:"CONSUL_SEED_ADDRESSES" want:"IP addresses or DNS names, separated by commas, without ports"`
}

// Seeded tells whether it is Consul that is asked for its servers, and not ECS.
func (c Config) Seeded() bool { return len(c.SeedAddresses) > 0 }

// Validate holds where either SeedAddresses are set, or Cluster and Service.
func (c Config) Validate() error {
	inECS := c.Cluster != "" || c.Service != ""
	switch {
	case c.Seeded() && inECS:
		return errors.New("set CONSUL_SEED_ADDRESSES or CONSUL_SERVER_CLUSTER and CONSUL_SERVER_SERVICE, not both ways")
	case c.Seeded(), c.Cluster != "" && c.Service != "":
		return nil
	case c.Cluster != "":
		return errors.New("CONSUL_SERVER_CLUSTER is set, so CONSUL_SERVER_SERVICE must be too")
	case c.Service != "":
		return errors.New("CONSUL_SERVER_SERVICE is set, so CONSUL_SERVER_CLUSTER must be too")
	}
	return errors.New("set CONSUL_SERVER_CLUSTER and CONSUL_SERVER_SERVICE where the servers are ECS tasks, and CONSUL_SEED_ADDRESSES where they are not")
}

// Seeds are IP addresses and DNS names at which some Consul servers answer.
type Seeds []string

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Seeds) UnmarshalText(text []byte) error {
	var seeds Seeds
	for _, field := range strings.Split(string(text), ",") {
		seed := strings.TrimSpace(field)
		if _, err := netip.ParseAddr(seed); err != nil && !isName(seed) {
			return fmt.Errorf("%q is neither an IP address nor a DNS name", seed)
		}
		seeds = append(seeds, seed)
	}
	*s = seeds
	return nil
}

// isName holds for DNS names. None ends in a label of digits, as a mistyped
// address does.
func isName(name string) bool {
	return regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?\.)*[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?\.?$`).MatchString(name)
}

// New returns the publisher that a valid configuration asks for. Nothing is read
// yet, and Consul is reached only where there are seeds. The retries of ECS and
// SSM are those of the SDK's configuration. With a plan, nothing is written but
// that.
func New(cfg Config, sdk aws.Config, consul access, metrics *metrics.Writer, log *slog.Logger, plan *dryrun.Plan) *Publisher {
	p := &Publisher{
		source:    &ecsService{client: ecs.NewFromConfig(sdk), cluster: cfg.Cluster, service: cfg.Service, log: log},
		parameter: serverlist.New(parameter.NewStore(sdk), cfg.ServersParameter),
		metrics:   metrics,
		log:       log,
		plan:      plan,
	}
	if plan != nil {
		p.parameter = serverlist.New(planned{parameter.NewStore(sdk), plan}, cfg.ServersParameter)
	}
	if cfg.Seeded() {
		p.source = newSeedServers(cfg.SeedAddresses, consul, log)
	}
	return p
}
