package awsapi

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
)

// ecsAgent is where ECS gives a task the credentials of its role.
const ecsAgent = "http://169.254.170.2"

// expiryWindow is how long before their end a role's credentials are got anew.
const expiryWindow = 5 * time.Minute

// FromEnvironment is the configuration for what ECS and Lambda run, by the
// variables that they set and the SDK knows: of the Region, which is the given
// one where none names it; of credentials, which are a function's own, those of
// a task's role, or those of the EC2 instance; and of endpoints. There are no
// profiles, and no files of a user's home.
func FromEnvironment(getenv func(string) string, region string) (aws.Config, error) {
	source, err := provider(getenv)
	if err != nil {
		return aws.Config{}, err
	}
	sdk := aws.Config{
		Region:        cmp.Or(getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"), region),
		Credentials:   source,
		ConfigSources: []any{environment(getenv)},
	}
	if at := getenv("AWS_ENDPOINT_URL"); at != "" {
		sdk.BaseEndpoint = &at
	}
	return sdk, nil
}

func provider(getenv func(string) string) (aws.CredentialsProvider, error) {
	own := aws.Credentials{AccessKeyID: getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: getenv("AWS_SESSION_TOKEN")}
	if own.HasKeys() {
		return credentials.StaticCredentialsProvider{Value: own}, nil
	}
	at := getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if relative := getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); relative != "" {
		at = ecsAgent + relative
	}
	if at == "" {
		return aws.NewCredentialsCache(ec2rolecreds.New()), nil
	}
	if !mayHaveCredentials(at) {
		return nil, fmt.Errorf("%w: AWS_CONTAINER_CREDENTIALS_FULL_URI is %q; want https, or a loopback address or one of ECS", ErrCredentials, at)
	}
	return aws.NewCredentialsCache(endpointcreds.New(at, func(o *endpointcreds.Options) {
		o.AuthorizationToken = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
		if file := getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
			o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
				token, err := os.ReadFile(file)
				return string(token), err
			})
		}
	}), func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = expiryWindow }), nil
}

// agents are the addresses at which ECS and EKS give credentials to containers.
func agents() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("169.254.170.2"), netip.MustParseAddr("169.254.170.23"), netip.MustParseAddr("fd00:ec2::23")}
}

// mayHaveCredentials keeps the authorization token, and the credentials, off the
// network in clear.
func mayHaveCredentials(text string) bool {
	at, err := url.Parse(text)
	if err != nil || at.Host == "" {
		return false
	}
	addr, err := netip.ParseAddr(at.Hostname())
	local := at.Hostname() == "localhost" || err == nil && (addr.IsLoopback() || slices.Contains(agents(), addr))
	return at.Scheme == "https" || at.Scheme == "http" && local
}

// environment is what the SDK's clients ask a configuration's source for.
type environment func(string) string

var (
	_ endpoints = environment(nil)
	_ fips      = environment(nil)
	_ dualStack = environment(nil)
)

// GetServiceBaseEndpoint is the URL of one service.
func (e environment) GetServiceBaseEndpoint(_ context.Context, sdkID string) (string, bool, error) {
	at := e("AWS_ENDPOINT_URL_" + strings.ReplaceAll(strings.ToUpper(sdkID), " ", "_"))
	return at, at != "", nil
}

// GetUseFIPSEndpoint tells whether endpoints are to be those of FIPS 140.
func (e environment) GetUseFIPSEndpoint(context.Context) (aws.FIPSEndpointState, bool, error) {
	if strings.EqualFold(e("AWS_USE_FIPS_ENDPOINT"), "true") {
		return aws.FIPSEndpointStateEnabled, true, nil
	}
	return aws.FIPSEndpointStateUnset, false, nil
}

// GetUseDualStackEndpoint tells whether endpoints are to answer by IPv6, too.
func (e environment) GetUseDualStackEndpoint(context.Context) (aws.DualStackEndpointState, bool, error) {
	if strings.EqualFold(e("AWS_USE_DUALSTACK_ENDPOINT"), "true") {
		return aws.DualStackEndpointStateEnabled, true, nil
	}
	return aws.DualStackEndpointStateUnset, false, nil
}
