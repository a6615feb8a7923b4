package envoy

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"ecsmesh/initcontainer/config"
	"ecsmesh/shared/consul"
)

func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

func statsSinks(settings config.EnvoySettings) []any {
	var sinks []any
	for _, sink := range []struct {
		name, kind string
		address    *config.SinkAddress
	}{
		{"envoy.stat_sinks.statsd", "StatsdSink", settings.StatsdSink},
		{"envoy.stat_sinks.dog_statsd", "DogStatsdSink", settings.DogStatsdSink},
	} {
		if sink.address == nil {
			continue
		}
		address := object{"pipe": object{"path": sink.address.Unix}}
		if sink.address.Unix == "" {
			address = socketAddress(sink.address.UDP.Addr().String(), int(sink.address.UDP.Port()))
		}
		sinks = append(sinks, object{
			"name":         sink.name,
			"typed_config": object{"@type": "type.googleapis.com/envoy.config.metrics.v3." + sink.kind, "address": address},
		})
	}
	return append(sinks, raws(settings.ExtraStatsSinks)...)
}

// statsConfig names the tags that Envoy takes out of its statistics' names.
// They are those of Consul's own bootstrap, tag for tag, so that dashboards
// made for Consul's sidecars work with ours.
func statsConfig(s Sidecar) any {
	settings := s.Proxy.Envoy
	if settings.StatsConfig != nil {
		return settings.StatsConfig
	}
	var tags []any
	fixed := map[string]bool{}
	for _, tag := range settings.StatsTags {
		name, value, _ := strings.Cut(tag, "=")
		name = strings.ToLower(name)
		tags = append(tags, object{"tag_name": name, "fixed_value": cmp.Or(value, "1")})
		fixed[name] = true
	}
	for _, rule := range tagRules() {
		tags = append(tags, object{"tag_name": rule.tag, "regex": rule.regex})
	}
	for _, own := range [][2]string{
		{"local_cluster", s.Service},
		{"consul.source.service", s.Service},
		{"consul.source.namespace", cmp.Or(s.Tenancy.Namespace, consul.Default)},
		{"consul.source.partition", cmp.Or(s.Tenancy.Partition, consul.Default)},
		{"consul.source.datacenter", s.Datacenter},
	} {
		if !fixed[own[0]] {
			tags = append(tags, object{"tag_name": own[0], "fixed_value": own[1]})
		}
	}
	return object{"stats_tags": tags, "use_all_default_tags": true}
}

type tagRule struct{ tag, regex string }

// The names that Consul gives to clusters and upstream listeners have these
// parts, each ended by a dot. Only the optional ones may be missing.
//
//	cluster.[hash~][subset.]service.namespace.[partition.]datacenter.routing.trust-domain.consul.…
//	cluster.service.[namespace.]peer.external.trust-domain.consul.…
//	(tcp|http).upstream.service.[namespace.][partition.]datacenter.…
//	(tcp|http).upstream_peered.service.[namespace.]peer.…
//
// Of a rule's two groups Envoy removes the outer from the statistic's name and
// takes the inner as the tag's value.
const segment = `[^.]+`

// tagRules are the rules for all tags, in the order of Consul's bootstrap.
func tagRules() []tagRule {
	var rules []tagRule
	add := func(tag, regex string) { rules = append(rules, tagRule{tag, regex}) }

	// Parts of a cluster's name, the one that is the tag's value in brackets.
	cluster := func(part string) string {
		p := func(name, pattern string) string {
			if name == part {
				return "(" + pattern + ")"
			}
			return pattern
		}
		routing := segment
		if part == "datacenter" || part == "partition" {
			routing = `internal[^.]*` // a peer's name stands where a datacenter's would
		}
		target := `(?:` + p("custom_hash", segment) + `~)?(?:` + p("service_subset", segment) + `\.)?` +
			p("service", segment) + `\.` + p("namespace", segment) + `\.(?:` + p("partition", segment) + `\.)?` + p("datacenter", segment)
		full := p("target", target) + `\.` + p("routing_type", routing) + `\.` + p("trust_domain", segment)
		return `(` + p("full_target", full) + `\.consul\.)`
	}
	parts := []string{"custom_hash", "service_subset", "service", "namespace", "partition", "datacenter", "peer", "routing_type", "trust_domain", "target", "full_target"}
	for _, part := range parts {
		if part == "peer" {
			add("consul.destination.peer", `^cluster\.(`+segment+`\.(?:`+segment+`\.)?(`+segment+`)\.external\.`+segment+`\.consul\.)`)
			continue
		}
		add("consul.destination."+part, `^cluster\.(?:passthrough~)?`+cluster(part))
	}

	const service, optional = segment, `(?:\.` + segment + `)?`
	const optionalValue = `(?:\.(` + segment + `))?`
	const local, either = `^(?:tcp|http)\.upstream\.`, `^(?:tcp|http)\.upstream(?:_peered)?\.`
	add("consul.upstream.service", either+`((`+service+`)`+optional+optional+`\.`+segment+`\.)`)
	add("consul.upstream.datacenter", local+`(`+service+optional+optional+`\.(`+segment+`)\.)`)
	add("consul.upstream.peer", `^(?:tcp|http)\.upstream_peered\.(`+service+optional+`\.(`+segment+`)\.)`)
	add("consul.upstream.namespace", either+`(`+service+optionalValue+optional+`\.`+segment+`\.)`)
	add("consul.upstream.partition", local+`(`+service+optional+optionalValue+`\.`+segment+`\.)`)

	// The same tags under the names they had before Consul 1.9, which older
	// dashboards still use.
	for _, part := range parts {
		if part != "peer" && part != "partition" {
			add("consul."+part, `^cluster\.`+cluster(part))
		}
	}
	return rules
}
