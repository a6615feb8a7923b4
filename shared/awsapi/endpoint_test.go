package awsapi

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// variables are an environment.
func variables(pairs ...string) func(string) string {
	set := map[string]string{"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "SECRET"}
	for i := 0; i < len(pairs); i += 2 {
		set[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return set[name] }
}

// TestEndpointsAreThoseOfTheSDK asks the SDK's own clients where they would, in
// each of AWS's partitions.
func TestEndpointsAreThoseOfTheSDK(t *testing.T) {
	for _, region := range []string{
		"eu-west-1", "us-east-1", "ap-southeast-2", "il-central-1", "cn-north-1", "cn-northwest-1", "us-gov-west-1", "us-gov-east-1",
		"us-iso-east-1", "us-isob-east-1", "us-isof-south-1", "eu-isoe-west-1", "eusc-de-east-1",
	} {
		for _, set := range [][]string{
			{}, {"AWS_USE_FIPS_ENDPOINT", "true"}, {"AWS_USE_DUALSTACK_ENDPOINT", "true"}, {"AWS_USE_FIPS_ENDPOINT", "true", "AWS_USE_DUALSTACK_ENDPOINT", "true"},
		} {
			sdk, err := FromEnvironment(variables(set...), region)
			if err != nil {
				t.Fatal(err)
			}
			fips := strings.Contains(strings.Join(set, " "), "FIPS")
			dual := strings.Contains(strings.Join(set, " "), "DUAL")
			ssmAt, err := ssm.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(), ssm.EndpointParameters{Region: &region, UseFIPS: &fips, UseDualStack: &dual})
			if err != nil {
				t.Fatal(err)
			}
			stsAt, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(), sts.EndpointParameters{Region: &region, UseFIPS: &fips, UseDualStack: &dual, UseGlobalEndpoint: aws.Bool(false)})
			if err != nil {
				t.Fatal(err)
			}
			for service, want := range map[string]string{"ssm": ssmAt.URI.String() + "/", "sts": stsAt.URI.String() + "/"} {
				if got, err := Endpoint(t.Context(), sdk, service); got != want || err != nil {
					t.Errorf("%s with %v: got %s, %v, want %s", region, set, got, err, want)
				}
			}
		}
	}
}

func TestEndpointsThatAreConfigured(t *testing.T) {
	for name, test := range map[string]struct {
		set  []string
		want string // of SSM: an endpoint, or part of the error
	}{
		"an emulator":              {[]string{"AWS_ENDPOINT_URL", "http://127.0.0.1:4566"}, "http://127.0.0.1:4566/"},
		"a VPC endpoint":           {[]string{"AWS_ENDPOINT_URL", "http://127.0.0.1:4566", "AWS_ENDPOINT_URL_SSM", "https://vpce-1.ssm.eu-west-1.vpce.amazonaws.com"}, "https://vpce-1.ssm.eu-west-1.vpce.amazonaws.com/"},
		"a path":                   {[]string{"AWS_ENDPOINT_URL_SSM", "https://proxy.example/ssm"}, "https://proxy.example/ssm"},
		"of something else":        {[]string{"AWS_ENDPOINT_URL_STS", "https://sts.example"}, "https://ssm.eu-west-1.amazonaws.com/"},
		"no URL":                   {[]string{"AWS_ENDPOINT_URL_SSM", "ssm.example"}, `"ssm.example" is not a URL`},
		"of the environment first": {[]string{"AWS_REGION", "eu-north-1"}, "https://ssm.eu-north-1.amazonaws.com/"},
		"by its other name":        {[]string{"AWS_DEFAULT_REGION", "eu-south-1"}, "https://ssm.eu-south-1.amazonaws.com/"},
	} {
		sdk, err := FromEnvironment(variables(test.set...), "eu-west-1")
		if err != nil {
			t.Fatal(err)
		}
		got, err := Endpoint(t.Context(), sdk, "ssm")
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
		// The SDK's clients read the same.
		var client string
		ssm.NewFromConfig(sdk, func(o *ssm.Options) { client = aws.ToString(o.BaseEndpoint) })
		if client != "" && err == nil && !strings.HasPrefix(got, client) {
			t.Errorf("%s: the SDK's client asks %s", name, client)
		}
	}
	if _, err := Endpoint(t.Context(), aws.Config{}, "ssm"); err == nil || !strings.Contains(err.Error(), "AWS_REGION is not set") {
		t.Errorf("without a Region: %v", err)
	}
}
