package config

import _ "embed"

// Schema describes the document that Read takes, as a JSON Schema: for editors,
// and for docs/configuration.md, which is made from it. Read is the judge, since
// it knows more, says what to do, and reports every fault at once.
//
//go:embed schema.json
var Schema []byte

// readSchema accepts the field by which an editor finds the schema.
func readSchema(root *document) { root.text("$schema", "") }
