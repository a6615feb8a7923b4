package acl

import (
	"errors"
	"fmt"
	"slices"
)

// found is what Consul has, by its kinds.
type found map[*kind][]object

// refuse finds what is wished for and was made by others, under the same name:
// that is neither taken over nor changed.
func refuse(wished []wish, has found, stack Stack) error {
	var faults []error
	for _, w := range wished {
		if other := w.other(has[w.kind], stack); other != nil {
			faults = append(faults, w.refusal(*other))
		}
	}
	return errors.Join(faults...)
}

// other is an object that stands where the wished one is to be, and is not the
// stack's.
func (w wish) other(has []object, stack Stack) *object {
	i := slices.IndexFunc(has, func(o object) bool { return w.grants(w.kind, o) && !stack.made(o.description) })
	if i < 0 {
		return nil
	}
	return &has[i]
}

func (w wish) refusal(other object) error {
	return fmt.Errorf("%s is there already, and this stack has not made it (its description is %q): remove it, or give the stack's auth methods other names", w, other.description)
}

// removal is an object that is to go.
type removal struct {
	kind *kind
	object
}

// leftovers are the objects that the stack has made and that nobody wishes for,
// in an order in which they can go: first who may log in. An auth method takes
// all of its binding rules with it. Where others have added some, it stays, and
// is among the kept ones.
func leftovers(wished []wish, has found, stack Stack) (remove []removal, kept []object) {
	for _, kind := range slices.Backward(kinds()) {
		wanted := map[int]bool{} // of several for one wish, which others may have asked for at once, one
		for _, w := range wished {
			wanted[slices.IndexFunc(has[kind], func(o object) bool { return w.grants(kind, o) })] = true
		}
		for i, o := range has[kind] {
			switch {
			case wanted[i] || !stack.made(o.description):
			case kind == methods && slices.ContainsFunc(has[rules], func(rule object) bool {
				return rule.method == o.name && !stack.made(rule.description)
			}):
				kept = append(kept, o)
			default:
				remove = append(remove, removal{kind, o})
			}
		}
	}
	return remove, kept
}
