package monthly

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// number writes a number for people: 12,300, 1.2 million, 0.03.
func number(n float64) string {
	switch {
	case n >= million:
		digits := 1
		if n >= 100*million {
			digits = 0
		}
		return strings.TrimSuffix(strconv.FormatFloat(n/million, 'f', digits, 64), ".0") + " million"
	case n >= 100 || n == math.Trunc(n):
		return thousands(math.Round(n))
	default:
		return exact(n, 3)
	}
}

// exact writes a number with so many digits that count, and without an exponent.
func exact(n float64, digits int) string {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(n, 'g', digits, 64), 64) // what was just written
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

// dollars writes an amount: $0.07, $5.31, $12,340.
func dollars(n float64) string {
	if n < 100 {
		return fmt.Sprintf("$%.2f", n)
	}
	return "$" + thousands(math.Round(n))
}

func thousands(n float64) string {
	text := strconv.FormatFloat(n, 'f', 0, 64)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
