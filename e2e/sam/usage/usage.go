// Package usage is what the documents use of AWS's SAM CLI. They are held to it
// wherever they are tested, and it to the real CLI by `make test-sam`.
package usage

// Options are those of commands, by the commands' names. true: it takes a value.
var Options = map[string]map[string]bool{
	"build":        {"--config-env": true, "--parallel": false},
	"validate":     {"--lint": false},
	"deploy":       {"--guided": false, "--config-env": true, "--parameter-overrides": true, "--no-confirm-changeset": false, "--stack-name": true, "--template-file": true, "--capabilities": true, "--resolve-s3": false, "--no-execute-changeset": false, "--s3-bucket": true},
	"package":      {"--s3-bucket": true, "--output-template-file": true, "--template-file": true},
	"local invoke": {"--event": true, "--env-vars": true, "--parameter-overrides": true},
	"delete":       {"--stack-name": true, "--no-prompts": false},
}
