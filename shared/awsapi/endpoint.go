package awsapi

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// partition is a part of AWS with domains of its own.
type partition struct {
	regions string // what the names of its Regions begin with
	domain  string
	dual    string // of what answers by IPv6, too
}

// partitions has AWS's first one last: it has all Regions that aren't another's.
var partitions = []partition{
	{"cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"},
	{"us-isob-", "sc2s.sgov.gov", "api.aws.scloud"},
	{"us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"},
	{"us-iso-", "c2s.ic.gov", "api.aws.ic.gov"},
	{"eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"},
	{"eusc-", "amazonaws.eu", "api.amazonwebservices.eu"},
	{"", "amazonaws.com", "api.aws"},
}

// What the SDK's clients ask of a configuration's sources, and so is asked here.
type (
	endpoints interface {
		GetServiceBaseEndpoint(ctx context.Context, sdkID string) (string, bool, error)
	}
	fips interface {
		GetUseFIPSEndpoint(context.Context) (aws.FIPSEndpointState, bool, error)
	}
	dualStack interface {
		GetUseDualStackEndpoint(context.Context) (aws.DualStackEndpointState, bool, error)
	}
)

// first is what the first source says that says anything.
func first[S, V any](sdk aws.Config, ask func(S) (V, bool, error)) (value V) {
	for _, source := range sdk.ConfigSources {
		if s, ok := source.(S); ok {
			if value, found, err := ask(s); found && err == nil {
				return value
			}
		}
	}
	return value
}

// Endpoint is the URL of a service: the one that is configured for it, or for
// all of AWS, or else AWS's own in the Region.
func Endpoint(ctx context.Context, sdk aws.Config, service string) (string, error) {
	configured := first(sdk, func(s endpoints) (string, bool, error) { return s.GetServiceBaseEndpoint(ctx, service) })
	if configured == "" {
		configured = aws.ToString(sdk.BaseEndpoint)
	}
	if configured == "" {
		return regional(ctx, sdk, service)
	}
	at, err := url.Parse(configured)
	if err != nil || at.Host == "" {
		return "", fmt.Errorf("the endpoint %q is not a URL, such as https://%s.eu-west-1.amazonaws.com", configured, service)
	}
	if at.Path == "" {
		at.Path = "/"
	}
	return at.String(), nil
}

func regional(ctx context.Context, sdk aws.Config, service string) (string, error) {
	if sdk.Region == "" {
		return "", errors.New("AWS_REGION is not set, and nothing else names a Region")
	}
	dual := first(sdk, func(s dualStack) (aws.DualStackEndpointState, bool, error) { return s.GetUseDualStackEndpoint(ctx) }) == aws.DualStackEndpointStateEnabled
	// In GovCloud, all that answers by IPv4 is FIPS 140's.
	if dual || !strings.HasPrefix(sdk.Region, "us-gov-") {
		if first(sdk, func(s fips) (aws.FIPSEndpointState, bool, error) { return s.GetUseFIPSEndpoint(ctx) }) == aws.FIPSEndpointStateEnabled {
			service += "-fips"
		}
	}
	here := partitions[slices.IndexFunc(partitions, func(p partition) bool { return strings.HasPrefix(sdk.Region, p.regions) })]
	domain := here.domain
	if dual {
		domain = here.dual
	}
	return "https://" + service + "." + sdk.Region + "." + domain + "/", nil
}
