package main

import (
	"os"
	"path/filepath"
)

// A store is the folder of the objects.
type store string

func (s store) path(plural, namespace, name string) string {
	return filepath.Join(string(s), plural, namespace, name+".json")
}

func (s store) read(plural, namespace, name string) ([]byte, error) {
	return os.ReadFile(s.path(plural, namespace, name))
}

// Write replaces the object's file by a whole new one.
func (s store) write(plural, namespace, name string, object []byte) error {
	path := s.path(plural, namespace, name)
	part := path + ".part"
	if err := os.WriteFile(part, object, 0o600); err != nil {
		return err
	}
	return os.Rename(part, path)
}
