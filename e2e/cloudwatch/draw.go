package cloudwatch

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
	"time"
)

// View is what a dashboard is drawn of.
type View struct {
	Title   string
	Metrics *Metrics
	States  map[string]State // of alarms, by name
	Logs    []string         // what the log widget shows, a line each
	From    time.Time
	To      time.Time
	Period  time.Duration // of all plots; 0: each widget's own
}

// Measures of a drawn dashboard, in its own units.
const (
	column   = 58.0 // of the grid's 24
	row      = 44.0
	edge     = 5.0  // between a widget and its cell
	axisRoom = 42.0 // left and right of a plot
	headRoom = 26.0 // for a widget's title
	keyRoom  = 18.0 // for a row of the legend
)

// palette colours series that choose no colour.
var palette = []string{"#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"}

const style = `<style>
  text { font: 12px system-ui, sans-serif; fill: #16191f } .title { font-weight: 600; font-size: 13px } .head { font-size: 20px; font-weight: 600 }
  .small { font-size: 10.5px; fill: #545b64 } .log { font: 11px ui-monospace, monospace } .none { fill: #879596; font-size: 13px }
  .page { fill: #f2f3f3 } .widget { fill: #fff; stroke: #d5dbdb } .grid { stroke: #eaeded } .axis { stroke: #aab7b8 }
  .ok { fill: #1d8102 } .alarm { fill: #d13212 } .state { fill: #fff; font-weight: 600; font-size: 11px }
</style>`

// Draw makes an SVG of the dashboard. It stands alone, without scripts, fonts or
// images of others.
func (d Dashboard) Draw(v View) string {
	bottom := 0
	for _, w := range d.Widgets {
		bottom = max(bottom, w.Y+w.Height)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" role="img"><title>%s</title>`+"\n%s\n",
		24*column+2*edge, float64(bottom)*row+2*edge, html.EscapeString(v.Title), style)
	b.WriteString(`<rect class="page" width="100%" height="100%"/>` + "\n")
	for _, w := range d.Widgets {
		box := box{edge + float64(w.X)*column, edge + float64(w.Y)*row, float64(w.Width)*column - edge, float64(w.Height)*row - edge}
		fmt.Fprintf(&b, `<g transform="translate(%g %g)"><rect class="widget" width="%g" height="%g" rx="3"/>`+"\n", box.x, box.y, box.w, box.h)
		p := &pen{b: &b, box: box, view: v}
		switch w.Type {
		case "text":
			p.markdown(w.Properties.Markdown)
		case "alarm":
			p.alarms(w.Properties)
		case "log":
			p.log(w.Properties)
		default:
			p.plot(w.Properties)
		}
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

type box struct{ x, y, w, h float64 }

// pen draws one widget, from its upper left corner.
type pen struct {
	b    *strings.Builder
	box  box
	view View
}

func (p *pen) text(class string, x, y float64, text string) {
	fmt.Fprintf(p.b, `<text class="%s" x="%.1f" y="%.1f">%s</text>`+"\n", class, x, y, html.EscapeString(text))
}

// end writes small text that ends at x.
func (p *pen) end(x, y float64, text string) {
	fmt.Fprintf(p.b, `<text class="small" x="%.1f" y="%.1f" text-anchor="end">%s</text>`+"\n", x, y, html.EscapeString(text))
}

func (p *pen) markdown(markdown string) {
	y := 28.0
	for line := range strings.SplitSeq(markdown, "\n") {
		if head, ok := strings.CutPrefix(line, "# "); ok {
			p.text("head", 12, y, head)
			y += 22
			continue
		}
		for _, part := range wrap(line, int((p.box.w-24)/6)) {
			p.text("", 12, y, part)
			y += 16
		}
	}
}

// wrap breaks a text into lines of at most so many characters.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}

func (p *pen) alarms(properties Properties) {
	p.text("title", 12, 20, properties.Title)
	const across, height = 4, 26.0
	width := (p.box.w - 24) / across
	for i, arn := range properties.Alarms {
		name := arn[strings.LastIndexByte(arn, ':')+1:]
		state := cmp.Or(p.view.States[name], Calm)
		x, y := 12+float64(i%across)*width, headRoom+4+float64(i/across)*(height+8)
		fmt.Fprintf(p.b, `<rect class="%s" x="%.1f" y="%.1f" width="54" height="%g" rx="3"/>`, strings.ToLower(string(state)), x, y, height)
		fmt.Fprintf(p.b, `<text class="state" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", x+27, y+17, state)
		p.text("", x+62, y+17, name)
	}
}

func (p *pen) log(properties Properties) {
	p.text("title", 12, 20, properties.Title)
	most := int((p.box.h - headRoom) / 16)
	for i, line := range p.view.Logs[:min(len(p.view.Logs), most)] {
		if longest := int((p.box.w - 24) / 6.7); len(line) > longest {
			line = line[:longest-1] + "…"
		}
		p.text("log", 12, headRoom+14+float64(i)*16, line)
	}
	if len(p.view.Logs) == 0 {
		p.text("none", 12, headRoom+20, "none")
	}
}

// axis is the left or the right one of a plot.
type axis struct {
	most   float64
	y      func(value float64) float64
	series []int
}

func (p *pen) plot(properties Properties) {
	p.text("title", 12, 20, properties.Title)
	period := cmp.Or(p.view.Period, time.Duration(properties.Period)*time.Second)
	values := make([][]Point, len(properties.Metrics))
	axes := map[string]*axis{"left": {}, "right": {}}
	drawn := false
	for i, series := range properties.Metrics {
		values[i] = p.buckets(series, cmp.Or(series.Stat, properties.Stat), period)
		side := axes[cmp.Or(series.YAxis, "left")]
		side.series = append(side.series, i)
		for _, point := range values[i] {
			side.most = max(side.most, point.Value)
			drawn = true
		}
	}
	keys := p.key(properties.Metrics, values)
	top, bottom := headRoom+12, p.box.h-18-keys
	if !drawn {
		p.text("none", p.box.w/2-50, (top+bottom)/2, "nothing was measured")
		return
	}
	for side, a := range axes {
		a.most = roundUp(a.most)
		a.y = func(value float64) float64 { return bottom - value/a.most*(bottom-top) }
		if len(a.series) == 0 {
			continue
		}
		for _, share := range []float64{0, 0.5, 1} {
			y := a.y(share * a.most)
			if side == "left" {
				fmt.Fprintf(p.b, `<line class="grid" x1="%g" x2="%.1f" y1="%.1f" y2="%.1f"/>`, axisRoom, p.box.w-axisRoom, y, y)
				p.end(axisRoom-4, y+4, number(share*a.most))
			} else {
				p.text("small", p.box.w-axisRoom+4, y+4, number(share*a.most))
			}
		}
	}
	if label := properties.YAxis.Left.Label; label != "" {
		p.end(p.box.w-12, 20, label)
	}
	x := func(at time.Time) float64 {
		return axisRoom + float64(at.Sub(p.view.From))/float64(p.view.To.Sub(p.view.From))*(p.box.w-2*axisRoom)
	}
	for _, threshold := range properties.Annotations.Horizontal {
		if left := axes["left"]; threshold.Value <= left.most {
			y := left.y(threshold.Value)
			fmt.Fprintf(p.b, `<line x1="%g" x2="%.1f" y1="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="4 3"/>`, axisRoom, p.box.w-axisRoom, y, y, threshold.Color)
			p.end(p.box.w-axisRoom, y-3, threshold.Label)
		}
	}
	for i, series := range properties.Metrics {
		side := axes[cmp.Or(series.YAxis, "left")]
		var path strings.Builder
		for j, point := range values[i] {
			at := point.At.Add(period / 2)
			join := "L"
			if j == 0 || point.At.Sub(values[i][j-1].At) > period {
				join = "M" // a period without data is a gap
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", join, x(at), side.y(point.Value))
			fmt.Fprintf(p.b, `<circle cx="%.1f" cy="%.1f" r="2.2" fill="%s"/>`, x(at), side.y(point.Value), colour(series, i))
		}
		fmt.Fprintf(p.b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.6"/>`+"\n", path.String(), colour(series, i))
	}
	fmt.Fprintf(p.b, `<line class="axis" x1="%g" x2="%.1f" y1="%.1f" y2="%.1f"/>`, axisRoom, p.box.w-axisRoom, bottom, bottom)
	p.text("small", axisRoom, bottom+13, p.view.From.UTC().Format("15:04:05"))
	p.end(p.box.w-axisRoom, bottom+13, p.view.To.UTC().Format("15:04:05"))
}

// key draws the legend, of those series that were measured first, and returns
// its height.
func (p *pen) key(all []Series, values [][]Point) float64 {
	const glyph = 6.3
	x, rows := 12.0, 1
	type entry struct {
		x    float64
		row  int
		i    int
		text string
	}
	var entries []entry
	for i, series := range all {
		if len(values[i]) == 0 && len(all) > 6 {
			continue
		}
		text := cmp.Or(series.Label, series.Name)
		width := 18 + glyph*float64(len(text)) + 10
		if x+width > p.box.w && x > 12 {
			x, rows = 12, rows+1
		}
		entries = append(entries, entry{x, rows, i, text})
		x += width
	}
	height := float64(rows) * keyRoom
	for _, e := range entries {
		y := p.box.h - height + float64(e.row-1)*keyRoom + 10
		fmt.Fprintf(p.b, `<rect x="%.1f" y="%.1f" width="10" height="10" fill="%s"/>`, e.x, y-9, colour(all[e.i], e.i))
		p.text("small", e.x+15, y, e.text)
	}
	return height
}

// buckets are a series' values by periods.
func (p *pen) buckets(series Series, statistic string, period time.Duration) []Point {
	var points []Point
	for from := p.view.From.Truncate(period); from.Before(p.view.To); from = from.Add(period) {
		if value, ok := Statistic(statistic, p.view.Metrics.Points(series.ID, from, from.Add(period))); ok {
			points = append(points, Point{from, value})
		}
	}
	return points
}

func colour(series Series, i int) string { return cmp.Or(series.Color, palette[i%len(palette)]) }

// roundUp is the next number that is fit for an axis' end.
func roundUp(value float64) float64 {
	if value <= 0 {
		return 1
	}
	ten := math.Pow(10, math.Floor(math.Log10(value)))
	ends := []float64{1, 2, 4, 5, 10}
	i := slices.IndexFunc(ends, func(end float64) bool { return end*ten >= value })
	return ends[i] * ten
}

func number(value float64) string {
	switch {
	case value >= 1e6:
		return fmt.Sprintf("%gM", value/1e6)
	case value >= 1e4:
		return fmt.Sprintf("%gk", value/1e3)
	default:
		return fmt.Sprintf("%g", value)
	}
}
