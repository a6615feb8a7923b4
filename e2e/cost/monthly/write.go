package monthly

import (
	"fmt"
	"os"
	"path/filepath"
)

// Files are what the model writes, by name.
func (in Inputs) Files() map[string]string {
	return map[string]string{"cost.md": in.Page(), "cost.svg": in.Chart()}
}

// Write leaves them in a folder.
func (in Inputs) Write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("write the cost model: %w", err)
	}
	for name, content := range in.Files() {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("write the cost model: %w", err)
		}
	}
	return nil
}
