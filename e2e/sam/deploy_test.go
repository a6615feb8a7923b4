package sam

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"ecsmesh/e2e/emulator"
)

// startAWS starts an AWS, and returns how SAM reaches it.
func startAWS(t *testing.T) (*emulator.Emulator, []string) {
	t.Helper()
	cloud, err := emulator.Start(t.Context(), emulator.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cloud.Stop(); err != nil {
			t.Error(err)
		}
	})
	return cloud, []string{
		"AWS_ENDPOINT_URL=" + cloud.URL(), "AWS_ACCESS_KEY_ID=" + emulator.AccountID, "AWS_SECRET_ACCESS_KEY=test",
		"AWS_REGION=" + emulator.Region, "SAM_CLI_POLL_DELAY=1",
	}
}

func TestPackage(t *testing.T) {
	cloud, env := startAWS(t)
	store := s3.NewFromConfig(cloud.Config(), func(o *s3.Options) { o.UsePathStyle = true })
	const bucket = "artifacts"
	if _, err := store.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		t.Fatal(err)
	}
	packaged := filepath.Join(t.TempDir(), "packaged.yaml")
	if _, err := cli(t.Context(), env, "package", "--template", host, "--s3-bucket", bucket, "--output-template-file", packaged); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(packaged)
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Resources map[string]struct {
			Properties struct {
				CodeUri string `yaml:"CodeUri"` //nolint:revive // SAM's name
			} `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	for _, function := range functions(t) {
		key, ok := strings.CutPrefix(template.Resources[function].Properties.CodeUri, "s3://"+bucket+"/")
		if !ok {
			t.Errorf("the code of %s is at %q", function, template.Resources[function].Properties.CodeUri)
			continue
		}
		object, err := store.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key})
		if err != nil {
			t.Errorf("read the code of %s: %v", function, err)
			continue
		}
		content, err := io.ReadAll(object.Body)
		if err != nil {
			t.Fatal(err)
		}
		archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			t.Errorf("read the code of %s: %v", function, err)
			continue
		}
		if len(archive.File) != 1 || archive.File[0].Name != "bootstrap" || archive.File[0].Mode().Perm()&0o111 == 0 {
			t.Errorf("the code of %s is %v, want a bootstrap that can be run", function, archive.File)
			continue
		}
		built, err := os.ReadFile(filepath.Join(filepath.Dir(host), function, "bootstrap"))
		if err != nil {
			t.Fatal(err)
		}
		file, err := archive.File[0].Open()
		if err != nil {
			t.Fatal(err)
		}
		if packed, err := io.ReadAll(file); err != nil || !bytes.Equal(packed, built) {
			t.Errorf("the bootstrap of %s is not the one that was built (%v)", function, err)
		}
	}
}

// stack is what CloudFormation has of a stack.
func stack(t *testing.T, cloud *emulator.Emulator, name string) (status string, parameters, tags map[string]string) {
	t.Helper()
	found, err := cloudformation.NewFromConfig(cloud.Config()).DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: &name})
	if err != nil {
		t.Fatal(err)
	}
	parameters, tags = map[string]string{}, map[string]string{}
	for _, p := range found.Stacks[0].Parameters {
		parameters[aws.ToString(p.ParameterKey)] = aws.ToString(p.ParameterValue)
	}
	for _, tag := range found.Stacks[0].Tags {
		tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return string(found.Stacks[0].StackStatus), parameters, tags
}

// As samconfig.toml has it, but for the question whether to go ahead.
func TestDeploy(t *testing.T) {
	cloud, env := startAWS(t)
	for _, test := range []struct {
		stack, environment, retention string
		args                          []string
	}{
		{"ecsmesh", "dev", "30", nil},
		{"ecsmesh-prod", "prod", "365", []string{"--config-env", "prod"}},
	} {
		overrides := "ConsulSeedAddresses=10.0.1.10"
		if test.environment == "prod" {
			overrides += " LogRetentionInDays=365 ServersParameterName=/ecsmesh-prod/consul-servers"
		}
		args := append([]string{"deploy", "--template", host, "--no-confirm-changeset", "--parameter-overrides", overrides}, test.args...)
		for _, want := range []string{"Successfully created/updated stack", "No changes to deploy"} {
			out, err := cli(t.Context(), env, args...)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), want) {
				t.Errorf("sam deploy of %s says no %q:\n%s", test.environment, want, out)
			}
		}
		status, parameters, tags := stack(t, cloud, test.stack)
		if status != "CREATE_COMPLETE" || parameters["LogRetentionInDays"] != test.retention || parameters["ConsulSeedAddresses"] != "10.0.1.10" {
			t.Errorf("the stack %s is %s, with %v", test.stack, status, parameters)
		}
		if diff := cmp.Diff(map[string]string{"project": "ecsmesh", "environment": test.environment}, tags); diff != "" {
			t.Errorf("the tags of %s (-want +got):\n%s", test.stack, diff)
		}
	}
}

// samconfig.toml has a comment on this: what the command line sets of parameters is
// all that is set, and a stack that is there keeps the others.
func TestParametersOfTheCommandLineTakeThePlaceOfTheFiles(t *testing.T) {
	cloud, env := startAWS(t)
	for _, test := range []struct {
		overrides []string
		want      map[string]string
	}{
		{[]string{"ConsulSeedAddresses=10.0.1.10"}, map[string]string{"LogRetentionInDays": defaults(t)["LogRetentionInDays"], "LogLevel": "INFO"}},
		{nil, map[string]string{"LogRetentionInDays": "365", "LogLevel": "INFO"}},
		{[]string{"LogLevel=DEBUG"}, map[string]string{"LogRetentionInDays": "365", "LogLevel": "DEBUG"}},
	} {
		args := []string{"deploy", "--config-env", "prod", "--template", host, "--no-confirm-changeset"}
		if test.overrides != nil {
			args = append(append(args, "--parameter-overrides"), test.overrides...)
		}
		if _, err := cli(t.Context(), env, args...); err != nil {
			t.Fatal(err)
		}
		_, parameters, _ := stack(t, cloud, "ecsmesh-prod")
		test.want["ConsulSeedAddresses"] = "10.0.1.10"
		for name, want := range test.want {
			if parameters[name] != want {
				t.Errorf("after sam deploy with %v, %s is %q, want %q", test.overrides, name, parameters[name], want)
			}
		}
	}
}

// A person who has Consul servers outside of ECS, and takes all else as it is:
// two answers more than Enter.
func TestGuidedDeploy(t *testing.T) {
	cloud, env := startAWS(t)
	config := filepath.Join(t.TempDir(), "samconfig.toml")
	answers := map[string]string{
		"Parameter ConsulSeedAddresses":   "10.0.1.10,10.0.2.10",
		"Confirm changes before deploy":   "n",
		"Save arguments to configuration": "y",
		"SAM configuration file":          config,
	}
	out := guide(t, env, answers)
	asked := regexp.MustCompile(`(?m)Parameter ([A-Za-z]+)`).FindAllStringSubmatch(out, -1)
	var order []string
	for _, match := range asked {
		order = append(order, match[1])
	}
	musts := []string{"ConsulServerClusterArn", "ConsulServerServiceName", "ConsulSeedAddresses", "VpcSubnetIds", "VpcSecurityGroupIds"}
	if len(order) < len(musts) || !slices.Equal(order[:len(musts)], musts) {
		t.Errorf("it asks for %v, want first %v", order, musts)
	}
	status, parameters, _ := stack(t, cloud, "ecsmesh")
	if status != "CREATE_COMPLETE" {
		t.Errorf("the stack is %s", status)
	}
	for name, value := range parameters {
		want, given := map[string]string{"ConsulSeedAddresses": "10.0.1.10,10.0.2.10"}[name]
		if !given {
			want = defaults(t)[name]
		}
		if value != want {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
	saved, err := os.ReadFile(config)
	if err != nil || !strings.Contains(string(saved), "10.0.1.10,10.0.2.10") {
		t.Errorf("the answers are not kept: %v\n%s", err, saved)
	}
}

// defaults are the template's.
func defaults(t *testing.T) map[string]string {
	t.Helper()
	var template struct {
		Parameters map[string]struct {
			Default string `yaml:"Default"`
		} `yaml:"Parameters"`
	}
	text, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for name, parameter := range template.Parameters {
		values[name] = parameter.Default
	}
	return values
}

// guide runs `sam deploy --guided` at a terminal, and answers its questions:
// those that have one of the keys in them so, all others with Enter.
func guide(t *testing.T, env []string, answers map[string]string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "script", "--quiet", "--return", "--command",
		strings.Join(append([]string{filepath.Join(root, python), "-m", "samcli", "deploy", "--guided", "--template", host}, configFile()...), " "), "/dev/null")
	cmd.Dir = root
	cmd.Env = slices.Concat(environment(), engine.env, env)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all, line bytes.Buffer
	question := regexp.MustCompile(`^\s*[A-Za-z].*(\[.*\]|\[y/N\]|\[Y/n\]): $`)
	colours := regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")
	one := make([]byte, 1)
	for {
		if _, err := stdout.Read(one); err != nil {
			break
		}
		all.WriteByte(one[0])
		if one[0] == '\n' || one[0] == '\r' {
			line.Reset()
			continue
		}
		line.WriteByte(one[0])
		text := colours.ReplaceAllString(line.String(), "")
		if !question.MatchString(text) {
			continue
		}
		line.Reset()
		reply := ""
		for asked, given := range answers {
			if strings.Contains(text, asked) {
				reply = given
			}
		}
		if _, err := io.WriteString(stdin, reply+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	text := colours.ReplaceAllString(all.String(), "")
	if err := cmd.Wait(); err != nil || !strings.Contains(text, "Successfully created/updated stack") {
		t.Fatalf("sam deploy --guided: %v\n%s", err, text)
	}
	return text
}

// samconfig.toml, as a reader of TOML has it.
func TestConfiguration(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), filepath.Join(root, python), "-c",
		"import json, sys, tomlkit; print(json.dumps(tomlkit.parse(open(sys.argv[1]).read()).unwrap()))",
		filepath.Join(root, "samconfig.toml")).Output()
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]json.RawMessage
	if err := json.Unmarshal(out, &config); err != nil {
		t.Fatal(err)
	}
	stacks := map[string]string{}
	for _, environment := range []string{"default", "prod"} {
		var commands map[string]struct{ Parameters map[string]any }
		if err := json.Unmarshal(config[environment], &commands); err != nil {
			t.Fatalf("%s: %v", environment, err)
		}
		stacks[environment] = fmt.Sprint(commands["global"].Parameters["stack_name"])
		if diff := cmp.Diff(map[string]any{"build_in_source": true, "parallel": true, "cached": false}, commands["build"].Parameters); diff != "" {
			t.Errorf("%s builds otherwise (-want +got):\n%s", environment, diff)
		}
		for option, want := range map[string]any{
			"confirm_changeset": true, "fail_on_empty_changeset": false, "resolve_s3": true, "capabilities": "CAPABILITY_IAM",
		} {
			if got := commands["deploy"].Parameters[option]; got != want {
				t.Errorf("%s: deploy has %s = %v, want %v", environment, option, got, want)
			}
		}
		// All that is set is a parameter of the template.
		for _, command := range commands {
			overrides, _ := command.Parameters["parameter_overrides"].(string)
			for _, override := range strings.Fields(overrides) {
				name, _, _ := strings.Cut(override, "=")
				if _, ok := defaults(t)[name]; !ok {
					t.Errorf("%s: the template has no parameter %s", environment, name)
				}
			}
		}
	}
	if stacks["default"] != "ecsmesh" || stacks["prod"] != "ecsmesh-prod" {
		t.Errorf("the stacks are %v", stacks)
	}
}
