package emulator

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"go.yaml.in/yaml/v3"
)

const pollInterval = 50 * time.Millisecond

// Deploy creates or updates a stack from a template file, as `sam deploy` does, and returns the stack's outputs.
// Each function named in code, by its logical ID, runs what is in that folder or zip file instead of what its CodeUri says.
// When the stack fails, the error has the reason of each resource that did.
func (e *Emulator) Deploy(ctx context.Context, stack, templatePath string, code, params map[string]string) (map[string]string, error) {
	template, err := os.ReadFile(templatePath)
	if err != nil {
		return nil, fmt.Errorf("deploy stack %s: %w", stack, err)
	}
	if len(code) > 0 {
		if template, err = e.packageCode(ctx, template, code); err != nil {
			return nil, fmt.Errorf("deploy stack %s: %w", stack, err)
		}
	}
	url, err := e.Upload(ctx, template)
	if err != nil {
		return nil, fmt.Errorf("deploy stack %s: %w", stack, err)
	}
	d := deployment{cloudformation.NewFromConfig(e.Config()), stack}
	if err := d.run(ctx, url, params); err != nil {
		return nil, fmt.Errorf("deploy stack %s: %w", stack, err)
	}
	outputs, err := d.outputs(ctx)
	if err != nil {
		return nil, fmt.Errorf("deploy stack %s: %w", stack, err)
	}
	return outputs, nil
}

// packageCode uploads each function's code and returns the template with the functions pointing there.
func (e *Emulator) packageCode(ctx context.Context, template []byte, code map[string]string) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(template, &doc); err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	for function, from := range code {
		properties := field(&doc, "Resources", function, "Properties")
		if properties == nil || properties.Kind != yaml.MappingNode {
			return nil, fmt.Errorf("the template has no function %s with properties", function)
		}
		archive, err := zipOf(from)
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", function, err)
		}
		key, err := e.keep(ctx, archive, ".zip")
		if err != nil {
			return nil, fmt.Errorf("upload %s: %w", function, err)
		}
		location := yaml.Node{Kind: yaml.ScalarNode, Value: "s3://" + e.bucket() + "/" + key}
		if uri := field(properties, "CodeUri"); uri != nil {
			*uri = location
			continue
		}
		// The Globals' CodeUri does not count for a function that has its own.
		properties.Content = append(properties.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "CodeUri"}, &location)
	}
	return yaml.Marshal(&doc)
}

// bucket is for code and templates. Its name belongs to one account.
func (e *Emulator) bucket() string { return "artifacts-" + e.account }

// Upload keeps a template in S3 and returns its URL: CloudFormation takes no more than 51,200 bytes directly.
func (e *Emulator) Upload(ctx context.Context, template []byte) (url string, err error) {
	key, err := e.keep(ctx, template, ".template")
	if err != nil {
		return "", fmt.Errorf("upload template: %w", err)
	}
	return e.url + "/" + e.bucket() + "/" + key, nil
}

// keep puts something into the bucket of artifacts, under its checksum.
func (e *Emulator) keep(ctx context.Context, content []byte, ending string) (key string, err error) {
	client := s3.NewFromConfig(e.Config(), func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(e.bucket())}); err != nil {
		return "", fmt.Errorf("create bucket %s: %w", e.bucket(), err)
	}
	key = fmt.Sprintf("%x%s", sha256.Sum256(content), ending)
	_, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(e.bucket()), Key: aws.String(key), Body: bytes.NewReader(content)})
	return key, err
}

// field is the node at a path of keys, or nil.
func field(node *yaml.Node, path ...string) *yaml.Node {
	if node.Kind == yaml.DocumentNode {
		node = node.Content[0]
	}
	if len(path) == 0 {
		return node
	}
	if node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i < len(node.Content); i += 2 {
		if node.Content[i].Value == path[0] {
			return field(node.Content[i+1], path[1:]...)
		}
	}
	return nil
}

func zipOf(folder string) ([]byte, error) {
	if filepath.Ext(folder) == ".zip" {
		return os.ReadFile(folder)
	}
	return zipFolder(folder)
}

// zipFolder has the same bytes for the same content, so that nothing is deployed when nothing changed.
func zipFolder(folder string) ([]byte, error) {
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	root := os.DirFS(folder)
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		header := &zip.FileHeader{Name: name, Method: zip.Store} // it does not travel far
		header.SetMode(0o755)                                    // Lambda runs what it unpacks
		file, err := w.CreateHeader(header)
		if err != nil {
			return err
		}
		_, err = file.Write(content)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return archive.Bytes(), nil
}

// deployment brings one stack to a template.
type deployment struct {
	api   *cloudformation.Client
	stack string
}

func (d deployment) run(ctx context.Context, templateURL string, params map[string]string) error {
	kind := types.ChangeSetTypeUpdate
	if _, err := d.describe(ctx); isMissing(err) {
		kind = types.ChangeSetTypeCreate
	} else if err != nil {
		return err
	}
	in := &cloudformation.CreateChangeSetInput{
		StackName:     aws.String(d.stack),
		ChangeSetName: aws.String(fmt.Sprintf("deploy-%d", time.Now().UnixNano())),
		ChangeSetType: kind,
		TemplateURL:   aws.String(templateURL),
		Capabilities:  []types.Capability{types.CapabilityCapabilityNamedIam, types.CapabilityCapabilityAutoExpand},
	}
	for key, value := range params {
		in.Parameters = append(in.Parameters, types.Parameter{ParameterKey: aws.String(key), ParameterValue: aws.String(value)})
	}
	created, err := d.api.CreateChangeSet(ctx, in)
	if err != nil {
		return fmt.Errorf("create change set: %w", err)
	}
	changed, err := d.awaitChangeSet(ctx, created.Id)
	if err != nil || !changed {
		return err
	}
	if _, err := d.api.ExecuteChangeSet(ctx, &cloudformation.ExecuteChangeSetInput{ChangeSetName: created.Id}); err != nil && !isExecuted(err) {
		return fmt.Errorf("execute change set: %w", err)
	}
	return d.awaitStack(ctx)
}

// awaitChangeSet says whether there is anything to change.
func (d deployment) awaitChangeSet(ctx context.Context, id *string) (bool, error) {
	for {
		out, err := d.api.DescribeChangeSet(ctx, &cloudformation.DescribeChangeSetInput{ChangeSetName: id})
		if err != nil {
			return false, fmt.Errorf("describe change set: %w", err)
		}
		switch reason := aws.ToString(out.StatusReason); {
		case out.Status == types.ChangeSetStatusCreateComplete:
			return true, nil
		case out.Status == types.ChangeSetStatusFailed && strings.Contains(reason, "didn't contain changes"):
			return false, nil
		case out.Status == types.ChangeSetStatusFailed:
			return false, fmt.Errorf("create change set: %s", reason)
		}
		if err := pause(ctx); err != nil {
			return false, fmt.Errorf("wait for change set: %w", err)
		}
	}
}

func (d deployment) awaitStack(ctx context.Context) error {
	for {
		stack, err := d.describe(ctx)
		if err != nil {
			return err
		}
		switch stack.StackStatus {
		case types.StackStatusCreateComplete, types.StackStatusUpdateComplete:
			return nil
		}
		if !strings.HasSuffix(string(stack.StackStatus), "_IN_PROGRESS") {
			return d.failure(ctx, stack.StackStatus)
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for %s: %w", stack.StackStatus, err)
		}
	}
}

// failure is the stack's end with the reasons of the resources that failed, the first failure first.
func (d deployment) failure(ctx context.Context, status types.StackStatus) error {
	out, err := d.api.DescribeStackEvents(ctx, &cloudformation.DescribeStackEventsInput{StackName: aws.String(d.stack)})
	if err != nil {
		return fmt.Errorf("%s; describe stack events: %w", status, err)
	}
	message := string(status)
	for i := len(out.StackEvents) - 1; i >= 0; i-- { // the newest event comes first
		event := out.StackEvents[i]
		if strings.HasSuffix(string(event.ResourceStatus), "_FAILED") {
			message += fmt.Sprintf("\n%s %s: %s", aws.ToString(event.LogicalResourceId), event.ResourceStatus, aws.ToString(event.ResourceStatusReason))
		}
	}
	return errors.New(message)
}

func (d deployment) outputs(ctx context.Context) (map[string]string, error) {
	stack, err := d.describe(ctx)
	if err != nil {
		return nil, err
	}
	outputs := map[string]string{}
	for _, o := range stack.Outputs {
		outputs[aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	return outputs, nil
}

func (d deployment) describe(ctx context.Context) (types.Stack, error) {
	out, err := d.api.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(d.stack)})
	if err != nil {
		return types.Stack{}, fmt.Errorf("describe stack: %w", err)
	}
	return out.Stacks[0], nil
}

// isMissing recognises CloudFormation's answer for a stack that does not exist: a bare ValidationError.
func isMissing(err error) bool {
	var refused smithy.APIError
	return errors.As(err, &refused) && refused.ErrorCode() == "ValidationError"
}

// isExecuted recognises the answer to a call that the SDK made again, because the first answer was lost, and
// that had already done its work.
func isExecuted(err error) bool {
	var done *types.InvalidChangeSetStatusException
	return errors.As(err, &done) && strings.Contains(done.ErrorMessage(), " is in EXECUTE_")
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollInterval):
		return nil
	}
}
