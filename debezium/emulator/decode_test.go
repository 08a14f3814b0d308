package emulator

import (
	"bytes"
	"testing"

	"github.com/jackc/pglogrepl"
)

// FuzzDecode feeds broken messages: an error is fine, the end of the program is not.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"", "B", "R\x00\x00", "T\xff\xff\xff\xff\x00", "I\x00\x00\x00\x01N\x00\x02t\x00\x00\x00\x01a", "U\x00\x00\x00\x01N\xff\xffu", "D\x00\x00\x00\x01O\x00\x01t\x7f\xff\xff\xff",
		"R\x00\x00\x40\x01public\x00users\x00f\x00\x01\x01id\x00\x00\x00\x00\x14\xff\xff\xff\xff",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = decode(data)
	})
}

func TestValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ typ, in, want string }{
		{"float8", "1e-300", "1.0E-300"}, {"float8", "0.001", "0.001"}, {"float8", "0.00099", "9.9E-4"}, {"float8", "1e7", "1.0E7"},
		{"float8", "9999999", "9999999.0"}, {"float8", "-0", "-0.0"}, {"float8", "Infinity", `"Infinity"`}, {"float8", "12345678.9", "1.23456789E7"},
		{"bool", "t", "true"}, {"bool", "f", "false"}, {"bytea", `\x00ff10`, `"AP8Q"`}, {"bytea", unavailable, `"` + unavailable + `"`},
		{"timestamptz", "2026-01-02 03:04:05+00", `"2026-01-02T03:04:05.000000Z"`}, {"timestamptz", "infinity", `"infinity"`},
		{"timetz", "23:59:59.5+02", `"21:59:59.5Z"`}, {"timetz", "00:00:00-03:30", `"03:30:00Z"`},
		{"interval", "P-1D", `"P0Y0M-1DT0H0M0S"`}, {"interval", "PT0S", `"P0Y0M0DT0H0M0S"`}, {"interval", "P1Y2M3DT4H5M6.7S", `"P1Y2M3DT4H5M6.7S"`},
		{"text", "a<b>&\"\\\u00e9\n", `"a<b>&\"\\é\n"`},
	} {
		var b bytes.Buffer
		kinds[c.typ].render(&b, c.in)
		if b.String() != c.want {
			t.Errorf("%s %q is %s, want %s", c.typ, c.in, b.String(), c.want)
		}
	}
	for in, want := range map[string]string{
		`{}`: `[]`, `{1,NULL,-3}`: `[1,null,-3]`, `{5}`: `[5]`,
	} {
		var b bytes.Buffer
		array(verbatim)(&b, in)
		if b.String() != want {
			t.Errorf("%s is %s, want %s", in, b.String(), want)
		}
	}
	for in, want := range map[string]string{
		`{a,NULL,"b c","NULL","x\"y\\z",""}`: `["a",null,"b c","NULL","x\"y\\z",""]`,
	} {
		var b bytes.Buffer
		array(quoted)(&b, in)
		if b.String() != want {
			t.Errorf("%s is %s, want %s", in, b.String(), want)
		}
	}
}

// The position that is confirmed never passes a record that is not acknowledged.
func TestMarks(t *testing.T) {
	t.Parallel()
	p := &producer{marks: []*mark{{}}}
	add := func() *mark {
		m := p.marks[len(p.marks)-1]
		m.open++
		return m
	}
	ack := func(m *mark) { m.open--; p.advance() }
	expect := func(want pglogrepl.LSN) {
		t.Helper()
		if p.position() != want {
			t.Errorf("at %d, want %d", p.position(), want)
		}
	}
	p.reach(5) // nothing is open
	expect(5)
	a, b := add(), add()
	p.reach(10)
	c := add()
	p.reach(20)
	p.reach(30) // a keepalive behind it
	expect(5)
	ack(c)
	expect(5) // the earlier ones are still open
	ack(a)
	expect(5)
	ack(b)
	expect(30)
	d := add() // of a transaction under way
	expect(30)
	p.reach(40)
	ack(d)
	expect(40)
	p.reach(35)
	expect(40)
}
