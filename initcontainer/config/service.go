package config

import "ecsmesh/shared/consul"

// Service is the application's registration.
type Service struct {
	Name              string // "" is the task family, lower-cased
	Port              int    // 0 is a service that only calls others
	Tags              []string
	Meta              map[string]string
	Weights           *Weights
	EnableTagOverride bool
	OutlierDetection  *OutlierDetection // nil: nothing is said of it

	// Checks are run by check; HealthSyncContainers are the containers whose
	// health, as ECS knows it, is told to Consul. At least one of both is
	// there, where there is a Port: by default a TCP check of that.
	Checks               []Check
	HealthSyncContainers []string
}

// Weights of a service instance in DNS SRV answers and in load balancing.
type Weights struct{ Passing, Warning int }

var serviceName = pattern(`^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$`)

// ValidServiceName tells whether Consul's DNS and mesh can serve a name. That of
// Consul's own servers is theirs.
func ValidServiceName(name string) bool { return serviceName().MatchString(name) && name != "consul" }

func readService(root *document) (Service, consul.Tenancy) {
	d := root.object("service")
	if d == nil {
		if !root.has("service") {
			root.fault("service", "nothing", `want an object with at least the application's port: "service": {"port": 8080}; or, for a gateway, "gateway": {"kind": "mesh-gateway"}`)
		}
		return Service{}, consul.Tenancy{}
	}
	service := Service{
		Name:              d.text("name", ""),
		Port:              d.integer("port", 0, 0, 65535),
		Tags:              d.texts("tags"),
		Meta:              d.textMap("meta"),
		EnableTagOverride: d.boolean("enableTagOverride", false),
	}
	d.serviceName("name", service.Name)
	if !d.has("port") {
		d.fault("port", "nothing", "want the port on which the application listens, or 0 where it listens on none")
	}
	if weights := d.object("weights"); weights != nil {
		service.Weights = &Weights{Passing: weights.integer("passing", 1, 1, 65535), Warning: weights.integer("warning", 1, 0, 65535)}
		weights.end()
	}
	names := map[string]bool{}
	for _, item := range d.objects("checks", `{"name": "live", "http": "http://127.0.0.1:8080/health"}`) {
		check := readCheck(item)
		if names[check.Name] {
			item.fault("name", show(check.Name), "want a name that no other check of the service has")
		}
		names[check.Name] = true
		service.Checks = append(service.Checks, check)
	}
	tenancy := readTenancy(d)
	service.OutlierDetection = readResilience(d)
	d.end()
	return service, tenancy
}

// serviceName accepts what Consul can serve, and nothing, for the task family.
func (d *document) serviceName(name, value string) {
	if value != "" && !ValidServiceName(value) {
		d.fault(name, show(value), "want lower-case letters, digits, - and _, beginning and ending with a letter or digit, and not consul, the name of Consul's own servers")
	}
}
