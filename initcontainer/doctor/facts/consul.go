package facts

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/check"
	"ecsmesh/initcontainer/discovery"
	"ecsmesh/initcontainer/token"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/login"
	"ecsmesh/shared/mesh"
)

// asking is the part that has Consul's word.
type asking struct {
	*gathering
	servers *consul.Servers
	secret  string // "": there is none
	issued  time.Time
}

// openConsul prepares questions to the servers that answer; false where none
// does, or it isn't known what to ask for.
func (g *gathering) openConsul() (*asking, bool) {
	addrs := g.answering()
	if len(addrs) == 0 || g.registered == nil {
		return nil, false
	}
	a := &asking{gathering: g}
	var err error
	a.servers, err = consul.NewServers(addrs, consul.Options{
		Port: g.facts.Servers.HTTPPort, TLS: g.secured.httpTLS, AttemptTimeout: attemptTime, Tenancy: g.registered.Tenancy(),
	})
	return a, err == nil
}

// do is one question.
func (a *asking) do(ctx context.Context, question func(context.Context, *api.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return a.servers.Do(ctx, question)
}

// Do is the same, for what asks by itself.
func (a *asking) Do(ctx context.Context, question func(context.Context, *api.Client) error) error {
	return a.do(ctx, question)
}

// token finds the task's ACL token, or logs in where that tells what is wrong,
// and asks what it is good for. What was got has to be given back by logout.
func (a *asking) token(ctx context.Context) (logout func(context.Context)) {
	logout = func(context.Context) {}
	source := a.tokenSource()
	found := &a.facts.Token
	if source.Login != nil {
		found.Source.Method = source.Login.AuthMethod
	}
	found.Source.Parameter = source.Parameter
	found.Wanted = source.Exists()
	a.readToken(ctx, source)
	if a.secret != "" {
		a.askToken(ctx)
	}
	due := a.facts.State.Memory.RenewAt
	late := !due.IsZero() && a.facts.Now.Sub(due) > Overdue
	if source.Login != nil && (a.secret == "" && found.Err == nil || found.AskErr != nil || late) {
		logout = a.logIn(ctx, *source.Login, source.Region)
	}
	a.servers.UseToken(a.secret, a.issued)
	a.rights(ctx)
	return logout
}

// tokenSource is where the task has its token from.
func (a *asking) tokenSource() token.Source {
	if task := a.facts.State.Task; task != nil {
		if task.Token == nil {
			return token.Source{}
		}
		return task.Token.Source
	}
	cfg, ok := a.configured()
	if !ok {
		return token.Source{}
	}
	return token.Source{Login: cfg.Login, Parameter: cfg.ConsulServers.TokenParameter, Region: a.region()}
}

// readToken takes the token that Envoy has or, before there is an Envoy, the one
// that the configuration names.
func (a *asking) readToken(ctx context.Context, source token.Source) {
	found := &a.facts.Token
	switch cfg, ok := a.configured(); {
	case a.facts.State.Task != nil && a.facts.State.Task.Token != nil:
		found.Wanted = true
		a.secret, a.issued, found.Err = check.HeldToken(a.facts.Volume.Path)
		found.Held = found.Err == nil
	case a.facts.State.Task != nil:
	case source.Parameter != "":
		reading, cancel := context.WithTimeout(ctx, parameterTime)
		defer cancel()
		a.secret, found.Err = a.readParameter(reading, source.Parameter, source.Region)
	case ok && cfg.ConsulServers.Token != "":
		found.Wanted = true
		a.secret = string(cfg.ConsulServers.Token)
	}
}

// askToken asks Consul what the token is.
func (a *asking) askToken(ctx context.Context) {
	found := &a.facts.Token
	a.servers.UseToken(a.secret, a.issued) // a new one may not have reached all servers
	var told *api.ACLToken
	err := a.do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		told, _, err = client.ACL().TokenReadSelf((&api.QueryOptions{}).WithContext(ctx))
		return err
	})
	found.Asked = true
	if err != nil {
		found.AskErr = err
		return
	}
	a.describe(told)
}

func (a *asking) describe(told *api.ACLToken) {
	found := &a.facts.Token
	found.Accessor, found.Method = told.AccessorID, told.AuthMethod
	if told.ExpirationTime != nil {
		found.Expires = *told.ExpirationTime
	}
	found.Services, found.Policies = nil, nil
	for _, identity := range told.ServiceIdentities {
		found.Services = append(found.Services, identity.ServiceName)
	}
	for _, policy := range told.Policies {
		found.Policies = append(found.Policies, policy.Name)
	}
	for _, role := range told.Roles {
		found.Policies = append(found.Policies, "role "+role.Name)
	}
}

// logIn makes the login that the task makes when it starts, or when it renews its
// token. If it works, what follows is asked with it.
func (a *asking) logIn(ctx context.Context, method login.Method, region string) (logout func(context.Context)) {
	done := &Login{}
	a.facts.Token.Login = done
	sdk, err := discovery.AWS(region)
	if err != nil {
		done.Err = err
		return func(context.Context) {}
	}
	limited, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()
	servers, err := consul.NewServers(a.answering(), consul.Options{
		Port: a.facts.Servers.HTTPPort, TLS: a.secured.httpTLS, AttemptTimeout: loginTime, Tenancy: a.registered.Tenancy(),
	})
	if err != nil {
		done.Err = err
		return func(context.Context) {}
	}
	var got login.Token
	client := login.New(sdk, method)
	done.Err = servers.Do(limited, func(ctx context.Context, consul *api.Client) (err error) {
		got, err = client.Login(ctx, consul)
		return err
	})
	if got.Secret == "" {
		return func(context.Context) {}
	}
	done.Err = nil // a later server's answer, if at all
	if a.secret == "" || a.facts.Token.AskErr != nil {
		known := a.facts.Token.AskErr
		a.secret, a.issued = got.Secret, time.Now()
		a.askToken(ctx)
		if known != nil {
			a.facts.Token.AskErr = known // that of the task's own
		}
	}
	return func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, logoutTime)
		defer cancel()
		done.LogoutErr = servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
			return login.Logout(ctx, client, got.Secret)
		})
	}
}

// answering are the servers that answered.
func (g *gathering) answering() []netip.Addr {
	var addrs []netip.Addr
	for i, port := range g.facts.Servers.HTTP {
		if port.Answered() {
			addrs = append(addrs, g.facts.Servers.Addrs[i])
		}
	}
	return addrs
}

// rights asks Consul for what the token may do of all that it has to. Consul's UI
// asks the same; where a Consul doesn't know the question, nothing is known. In a
// Consul Enterprise it would have to say for which tenant.
func (a *asking) rights(ctx context.Context) {
	if !a.registered.Tenancy().IsDefault() {
		return
	}
	instance := a.registered.Instance()
	rights := []Right{
		{Resource: "service", Access: "write", Segment: instance.Service},
		{Resource: "node", Access: "write", Segment: a.registered.Node()},
	}
	if sidecar := a.registered.Sidecar.Service; sidecar != instance {
		rights = append(rights, Right{Resource: "service", Access: "write", Segment: sidecar.Service})
	}
	body, err := json.Marshal(rights)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	for _, port := range a.facts.Servers.HTTP {
		if !port.Answered() {
			continue
		}
		answer, err := ask(ctx, http.MethodPost, port.Address, "/v1/internal/acl/authorize", a.secured.http, a.secret, bytes.NewReader(body))
		var told []struct{ Allow bool }
		if err != nil || answer.status != http.StatusOK || json.Unmarshal(answer.body, &told) != nil || len(told) != len(rights) {
			continue // it has no ACLs, or not this token yet
		}
		for i := range rights {
			rights[i].Allowed = told[i].Allow
		}
		a.facts.Token.Rights = rights
		return
	}
}

// registration reads back what Consul has of the task.
func (a *asking) registration(ctx context.Context) {
	found := &a.facts.Registration
	found.Asked = true
	var work sync.WaitGroup
	work.Go(func() {
		if found.Found, found.Err = a.registered.Read(ctx, a); found.Err == nil {
			found.Gone = a.registered.Gone(found.Found)
			found.Damage = a.registered.Damage(found.Found)
		}
	})
	work.Go(func() {
		others, err := a.registered.Neighbours(ctx, a)
		found.NeighboursErr = err
		for _, other := range others {
			own, theirs := a.registered.Sidecar.NodeMeta[mesh.MetaVPCID], other.Meta[mesh.MetaVPCID]
			found.Neighbours = append(found.Neighbours, Neighbour{
				Node: other.Node, TaskARN: other.Meta[mesh.MetaTaskARN], Since: mesh.RegisteredAt(other.Meta),
				Distant: own != "" && theirs != "" && own != theirs,
			})
		}
	})
	work.Go(func() { found.Roots, found.RootsErr = a.roots(ctx) })
	work.Wait()
}

// roots are the serial numbers of the mesh's own certificate authorities.
func (a *asking) roots(ctx context.Context) (serials []string, err error) {
	var list *api.CARootList
	err = a.do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		list, _, err = client.Connect().CARoots((&api.QueryOptions{}).WithContext(ctx))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the mesh's certificate authorities: %w", err)
	}
	for _, root := range list.Roots {
		block, _ := pem.Decode([]byte(root.RootCertPEM))
		if block == nil {
			continue
		}
		if parsed, err := x509.ParseCertificate(block.Bytes); err == nil {
			serials = append(serials, Serial(parsed.SerialNumber.Text(16)))
		}
	}
	return serials, nil
}

// Serial is a serial number in hexadecimal digits as everybody writes it who
// doesn't fill it up.
func Serial(text string) string { return strings.TrimLeft(strings.ToLower(text), "0") }

// together is how many upstreams are asked for at a time.
const together = 8

// upstreams asks for the services that the task calls.
func (a *asking) upstreams(ctx context.Context) {
	proxy := a.registered.Sidecar.Service.Proxy
	if proxy == nil {
		return
	}
	a.facts.Upstreams = make([]Upstream, len(proxy.Upstreams))
	var work sync.WaitGroup
	slots := make(chan struct{}, together)
	for i, configured := range proxy.Upstreams {
		work.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			a.facts.Upstreams[i] = a.upstream(ctx, configured)
		})
	}
	work.Wait()
}

func (a *asking) upstream(ctx context.Context, configured api.Upstream) Upstream {
	found := Upstream{Name: configured.DestinationName}
	switch {
	case configured.DestinationPeer != "":
		found.Elsewhere = "peer " + configured.DestinationPeer
	case configured.DestinationType == api.UpstreamDestTypePreparedQuery:
		found.Elsewhere = "a prepared query"
	case configured.Datacenter != "":
		found.Elsewhere = "datacenter " + configured.Datacenter
	case !a.registered.Tenancy().IsDefault() || configured.DestinationNamespace != "" || configured.DestinationPartition != "":
		found.Elsewhere = "a namespace or partition of Consul Enterprise"
	}
	if found.Elsewhere != "" {
		return found
	}
	found.Err = a.do(ctx, func(ctx context.Context, client *api.Client) error {
		options := (&api.QueryOptions{}).WithContext(ctx)
		entries, _, err := client.Health().Connect(found.Name, "", false, options)
		if err != nil {
			return err
		}
		found.Instances, found.Passing = len(entries), 0
		for _, entry := range entries {
			if entry.Checks.AggregatedStatus() != api.HealthCritical {
				found.Passing++
			}
		}
		plain, meta, err := client.Catalog().Service(found.Name, "", options)
		if err != nil {
			return err
		}
		found.Outside = len(plain)
		chain, _, err := client.DiscoveryChain().Get(found.Name, nil, options)
		if err != nil {
			return err
		}
		found.Configured, found.Targets = chain.Chain != nil && !chain.Chain.Default, nil
		if found.Configured {
			for _, target := range chain.Chain.Targets {
				found.Targets = append(found.Targets, target.Name)
			}
		}
		return consul.Complete(meta)
	})
	if found.Err == nil && found.Instances+found.Outside == 0 {
		found.Similar = a.similar(ctx, found.Name)
	}
	a.intention(ctx, &found)
	return found
}

// intention asks whether the task's service may call an upstream.
func (a *asking) intention(ctx context.Context, found *Upstream) {
	own := a.registered.Instance().Service
	found.IntentionErr = a.do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		options := (&api.QueryOptions{}).WithContext(ctx)
		found.Allowed, _, err = client.Connect().IntentionCheck(&api.IntentionCheck{
			Source: own, Destination: found.Name, SourceType: api.IntentionSourceConsul,
		}, options)
		if err != nil || found.Allowed {
			return err
		}
		// That has no word for intentions that look at requests.
		matches, _, err := client.Connect().IntentionMatch(&api.IntentionMatch{By: api.IntentionMatchDestination, Names: []string{found.Name}}, options)
		if err != nil {
			return err
		}
		for _, intention := range matches[found.Name] { // the most exact comes first
			if intention.SourceName == own || intention.SourceName == "*" {
				found.PerRequest = len(intention.Permissions) > 0
				break
			}
		}
		return nil
	})
}

// serversService is the service of Consul's own servers.
const serversService = "consul"

// similar is a service of the mesh with nearly that name; "" is none.
func (a *asking) similar(ctx context.Context, name string) string {
	var all map[string][]string
	err := a.do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		all, _, err = client.Catalog().Services((&api.QueryOptions{}).WithContext(ctx))
		return err
	})
	if err != nil {
		return ""
	}
	best, nearest := "", max(2, len(name)/3)+1
	for _, other := range slices.Sorted(maps.Keys(all)) {
		if other == serversService || strings.HasSuffix(other, mesh.ProxyService("")) {
			continue
		}
		if d := distance(name, other); d < nearest {
			best, nearest = other, d
		}
	}
	return best
}

// distance is how many letters have to be changed, added or left out.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		above := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := above
			if a[i] != b[j] {
				changed++
			}
			above = row[j+1]
			row[j+1] = min(changed, row[j]+1, above+1)
		}
	}
	return row[len(b)]
}
