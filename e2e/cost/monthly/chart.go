package monthly

import (
	"fmt"
	"strings"
)

const style = `  <style>
    .page { fill: #ffffff } .ours { fill: #2f6fd0 } .other { fill: #9aa3b2 } text { fill: #1d2530 } .dim { fill: #566072; font-size: 12px }
    .axis { stroke: #d5d9e0 } .value { font-weight: 600 }
    @media (prefers-color-scheme: dark) {
      .page { fill: #12161c } .ours { fill: #5b93e6 } .other { fill: #6b778a } text { fill: #e6eaf0 } .dim { fill: #9aa6b8 } .axis { stroke: #313b49 }
    }
  </style>
`

// Where things are, in the chart's units.
const (
	width     = 900
	barsFrom  = 288.0
	barsTo    = 700.0
	barHeight = 16
	rowHeight = 25
	panelHead = 32
	panelsTop = 62
)

// charted are the sizes in the chart. Each has a scale of its own, since a
// common one would hide the small.
var charted = sizes[:3]

// Chart is docs/performance/cost.svg.
func (in Inputs) Chart() string {
	var (
		options = in.options()
		panel   = panelHead + rowHeight*len(options) + 14
		height  = panelsTop + panel*len(charted) + 6
		svg     strings.Builder
	)
	draw := func(format string, args ...any) { fmt.Fprintf(&svg, format+"\n", args...) }
	draw(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="14" role="img" aria-labelledby="title">`, width, height)
	draw(`  <title id="title">What a mesh costs a month in AWS: ecsmesh, helper processes with a controller, and a controller alone</title>`)
	svg.WriteString(style)
	draw(`  <rect class="page" width="%d" height="%d" rx="8"/>`, width, height)
	draw(`  <text x="24" y="32" font-size="17" font-weight="600">What it costs a month</text>`)
	draw(`  <text class="dim" x="24" y="51">AWS, %s, without free tiers; each size of mesh has a scale of its own</text>`, virginia)
	for i, tasks := range charted {
		top := panelsTop + i*panel
		draw(`  <text x="24" y="%d" font-weight="600">%s tasks</text>`, top+20, number(tasks))
		most := 0.0
		for _, o := range options {
			most = max(most, o.bill(tasks).Dollars())
		}
		for row, o := range options {
			amount := o.bill(tasks).Dollars()
			class := "other"
			if o.ours() {
				class = "ours"
			}
			y := top + panelHead + row*rowHeight
			length := max(2, (barsTo-barsFrom)*amount/most)
			draw(`  <text x="%.0f" y="%d" text-anchor="end">%s</text>`, barsFrom-12, y+13, o.name)
			draw(`  <rect class="%s" x="%.0f" y="%d" width="%.1f" height="%d" rx="2"/>`, class, barsFrom, y, length, barHeight)
			draw(`  <text x="%.1f" y="%d"><tspan class="value">%s</tspan><tspan class="dim" dx="8">%s</tspan></text>`,
				barsFrom+length+8, y+13, dollars(amount), in.remark(o, tasks))
		}
		draw(`  <line class="axis" x1="%.0f" x2="%.0f" y1="%d" y2="%d"/>`, barsFrom, barsFrom, top+panelHead-4, top+panelHead+rowHeight*len(options)-4)
	}
	draw(`</svg>`)
	return svg.String()
}
