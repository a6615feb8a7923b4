package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"ecsmesh/e2e/bench/results"
)

// widest is how many subjects have columns of their own.
const widest = 5

// table has a benchmark's figures: a column for each subject and a row for each
// quantity or, where there are many subjects, the other way round.
func table(figures []results.Figure) string {
	subject := func(f results.Figure) string { return f.Subject }
	quantity := func(f results.Figure) string { return f.Quantity }
	columns, rows := distinct(figures, subject), distinct(figures, quantity)
	across, down := subject, quantity
	if len(columns) > widest {
		columns, rows, across, down = rows, columns, quantity, subject
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("--:|", len(columns)))
	for _, row := range rows {
		b.WriteString("| " + row + " |")
		for _, column := range columns {
			var cells []string
			for _, f := range figures {
				if across(f) == column && down(f) == row {
					cells = append(cells, cell(f))
				}
			}
			b.WriteString(" " + strings.Join(cells, ", ") + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// distributions is a table of the figures that have samples; "" if none has.
func distributions(figures []results.Figure) string {
	var b strings.Builder
	for _, f := range figures {
		if len(f.Samples) == 0 {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("\n| distribution | least | p50 | p95 | p99 | most |\n|---|--:|--:|--:|--:|--:|\n")
		}
		fmt.Fprintf(&b, "| %s |", label(f))
		for _, share := range []float64{0, 0.5, 0.95, 0.99, 1} {
			fmt.Fprintf(&b, " %s |", quantity(results.Quantile(f.Samples, share), f.Unit))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func label(f results.Figure) string { return f.Subject + ": " + f.Quantity }

// distinct keeps the order.
func distinct(figures []results.Figure, of func(results.Figure) string) []string {
	var all []string
	for _, f := range figures {
		if value := of(f); !slices.Contains(all, value) {
			all = append(all, value)
		}
	}
	return all
}

// cell is a value with its unit and its target.
func cell(f results.Figure) string {
	value := quantity(f.Value, f.Unit)
	if !f.Aimed() {
		return value
	}
	target := "≤ " + number(f.Target)
	if f.Nothing {
		target = "0"
	}
	if f.Met() {
		return fmt.Sprintf("%s ✓ (%s)", value, target)
	}
	return fmt.Sprintf("**%s ✗ (%s)**", value, target)
}

func quantity(value float64, unit string) string {
	return strings.TrimSpace(number(value) + " " + unit)
}

// number has three digits that mean something, and all those before the point.
func number(value float64) string {
	text := strconv.FormatFloat(significant(value, 3), 'f', -1, 64)
	if math.Abs(value) < 1000 {
		return text
	}
	text = strconv.FormatFloat(value, 'f', 0, 64)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// significant is a value with so many digits.
func significant(value float64, digits int) float64 {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(value, 'g', digits, 64), 64)
	if err != nil {
		return value
	}
	return rounded
}
