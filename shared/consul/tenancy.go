package consul

import (
	"net/http"
	"sync/atomic"
)

// Default is the namespace, and the partition, that Consul has without any.
// The Community Edition has no others, and takes no request that names even
// these.
const Default = "default"

// Tenancy is where in a Consul Enterprise something is. The zero value is the
// default namespace of the default partition.
type Tenancy struct{ Namespace, Partition string }

// IsDefault holds for what every Consul has.
func (t Tenancy) IsDefault() bool { return isDefault(t.Namespace) && isDefault(t.Partition) }

func isDefault(name string) bool { return name == "" || name == Default }

// ours stands, on its way to authorized, for the token of UseToken and for the
// namespace and the partition of Options. A request that names others keeps
// them, as a logout does with its token.
const (
	ours        = "ours"
	tokenHeader = "X-Consul-Token" //nolint:gosec // its name, not a token
)

// loginPath is where logins go, which are by auth methods of the default
// namespace: rules of theirs lead into others.
const loginPath = "/v1/acl/login"

// authorized gives requests their token and their tenancy. It keeps out of them
// what Consul's client takes from CONSUL_* variables by itself: a token,
// namespace or partition that is set for the application's own use must not
// change where a task is registered.
type authorized struct {
	token   *atomic.Pointer[token]
	tenancy Tenancy
	http.RoundTripper
}

func (a authorized) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	if request.Header.Get(tokenHeader) == ours {
		request.Header.Del(tokenHeader)
		if token := a.token.Load(); token != nil && token.secret != "" {
			request.Header.Set(tokenHeader, token.secret)
		}
	}
	namespace := a.tenancy.Namespace
	if request.URL.Path == loginPath {
		namespace = Default
	}
	query := request.URL.Query()
	for name, own := range map[string]string{"ns": namespace, "partition": a.tenancy.Partition} {
		value := query.Get(name)
		if value == ours {
			value = own
		}
		query.Del(name)
		if !isDefault(value) {
			query.Set(name, value)
		}
	}
	request.URL.RawQuery = query.Encode()
	return a.RoundTripper.RoundTrip(request)
}
