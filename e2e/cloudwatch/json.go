package cloudwatch

import (
	"bytes"
	"encoding/json"
)

// strictly decodes JSON and refuses members that into has no place for.
func strictly(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}
