package environment

import (
	"errors"
	"strconv"
)

// Port is a TCP port, from 1 to 65535.
type Port uint16

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Port) UnmarshalText(text []byte) error {
	number, err := strconv.ParseUint(string(text), 10, 16)
	if err == nil && number == 0 {
		err = errors.New("0 is no port")
	}
	*p = Port(number)
	return err
}
