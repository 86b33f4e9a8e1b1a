package remotewrite

import "unicode/utf8"

// symbol is where a symbol is in the message.
type symbol struct {
	off uint32
	// size is the length in bytes, with flags on top of it.
	size uint32
	// key orders symbols by their first eight bytes, see keyAt.
	key uint64
}

const (
	// badUTF8 flags a symbol that is not valid UTF-8.
	badUTF8 = 1 << 31
	// special flags a symbol that cannot be just any label name or value: it is
	// empty or long.
	special = 1 << 30
	// symbolPlain is the largest size without a flag.
	symbolPlain = special - 1
)

// text is the symbol itself.
func (s symbol) text(b []byte) []byte { return b[s.off:][:s.size&symbolPlain] }

// walkV2 walks an io.prometheus.write.v2.Request, twice on the top level: the
// format does not say that symbols come before the series that refer to them.
func (w *Walker) walkV2(b []byte) *Error {
	w.symbols = w.symbols[:0]
	series, fromV1 := -1, false
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		if next == bad {
			return w.malformed(V2)
		}
		switch num {
		case 4, 5:
			start, end := span(b, next)
			if typ != wireLen || end == bad {
				return w.malformed(V2)
			}
			if num == 4 {
				if err := w.addSymbol(b, start, end); err != nil {
					return err
				}
			} else if series < 0 {
				series = i
			}
			i = end
		default:
			fromV1 = fromV1 || num <= 3
			if i = skip(b, next, typ); i == bad {
				return w.malformed(V2)
			}
		}
	}
	if series >= 0 {
		if err := w.walkSeriesV2(b, series); err != nil {
			return err
		}
	}
	switch {
	case fromV1:
		err := badRequest(reasonWrongSchema, "the message uses the fields 1 to 3, which a 2.0 request leaves to 1.0")
		err.Hint = "the body looks like a 1.0 message labelled as 2.0, as promtool push metrics makes it: send Content-Type: " + contentTypeV1
		return err
	case series < 0 && len(w.symbols) == 0 && len(b) > 0:
		return badRequest(reasonWrongSchema, "the %d-byte message has no field of a 2.0 request", len(b))
	case series < 0 && len(b) > 0:
		return badRequest(reasonEmptyRequest, "the request has %d symbols and no series", len(w.symbols))
	case series >= 0 && (len(w.symbols) == 0 || w.symbols[0].size&symbolPlain != 0):
		return badRequest(reasonFirstSymbol, "the first of the %d symbols is not the empty string", len(w.symbols))
	}
	return nil
}

// addSymbol takes a symbol into the table.
func (w *Walker) addSymbol(b []byte, start, end int) *Error {
	if len(w.symbols) >= w.lim.MaxSymbols {
		return tooMuch(reasonTooManySymbols, "the request has more than %d symbols, the limit", w.lim.MaxSymbols)
	}
	s := symbol{off: uint32(start), size: uint32(end - start)}
	switch n := end - start; {
	case n == 0:
	case start+8 <= len(b):
		s.key = keyAt(b, start, n)
	default:
		var tail [8]byte
		copy(tail[:], b[start:end])
		s.key = keyAt(tail[:], 0, n)
	}
	if s.size == 0 || s.size > w.maxValue {
		s.size |= special
	}
	if text := b[start:end]; !isASCII(text) && !utf8.Valid(text) {
		s.size |= badUTF8
	}
	w.symbols = append(w.symbols, s)
	return nil
}

// walkSeriesV2 walks the series, of which the first is at i. The top level is
// known to be well-formed.
func (w *Walker) walkSeriesV2(b []byte, i int) *Error {
	for i < len(b) {
		num, typ, next := tag(b, i)
		if num != 5 {
			i = skip(b, next, typ)
			continue
		}
		start, end := span(b, next)
		if !w.fastSeriesV2(b, start, end) {
			w.beginSeries()
			if !w.seriesV2(b, start, end) {
				return w.malformed(V2)
			}
			refused := w.rej.total
			w.endSeries()
			if w.rej.total > refused {
				w.rej.cutOut(i, end)
			}
		}
		if w.overLimits() {
			return w.limitError()
		}
		i = end
	}
	return nil
}

// seriesV2 walks the TimeSeries in b[i:end].
func (w *Walker) seriesV2(all []byte, i, end int) bool {
	b := all[:end]
	var refs refList
	var meta metadataV2
	var created uint64
	w.labels.valid = true // of the symbols it is known already, see checkRefs
	for i < end {
		num, typ, next := tag(b, i)
		if next == bad {
			return false
		}
		switch num {
		case 1:
			if i = w.refs(b, next, typ, &w.labels, &refs); i == bad {
				return false
			}
		case 2, 3, 4, 5:
			start, stop := span(b, next)
			if typ != wireLen || stop == bad {
				return false
			}
			ok := true
			switch num {
			case 2:
				ok = w.sample(b[start:stop])
			case 3:
				ok = w.histogram(b[start:stop])
			case 4:
				ok = w.exemplarV2(all, start, stop)
			case 5:
				ok = meta.walk(b[start:stop])
			}
			if !ok {
				return false
			}
			i = stop
		default:
			if num == 6 && typ == wireVarint {
				created, i = varint(b, next)
			} else {
				i = skip(b, next, typ)
			}
			if i == bad {
				return false
			}
		}
	}
	w.startTime(int64(created))
	w.checkRefs(refs, "")
	w.checkSeriesLabels(all)
	w.checkMetadata(meta)
	return true
}

// exemplarV2 walks the Exemplar in b[i:end].
func (w *Walker) exemplarV2(all []byte, i, end int) bool {
	b := all[:end]
	var refs refList
	var ms uint64
	w.ex.reset()
	w.ex.valid = true
	for i < end {
		num, typ, next := tag(b, i)
		if next == bad {
			return false
		}
		switch num {
		case 1:
			i = w.refs(b, next, typ, &w.ex, &refs)
		case 2:
			if typ != wireI64 {
				return false
			}
			_, i = fixed64(b, next)
		case 3:
			if typ != wireVarint {
				return false
			}
			ms, i = varint(b, next)
		default:
			i = skip(b, next, typ)
		}
		if i == bad {
			return false
		}
	}
	w.sum.Exemplars++
	w.checkRefs(refs, "an exemplar's ")
	w.checkExemplarLabels(all)
	w.exemplarTime(int64(ms))
	return true
}

// refList follows a list of references, names and values in turn.
type refList struct {
	n       int
	name    symbol // of the label under way
	outside uint32 // the first reference out of range
	anyOut  bool
	badUTF8 bool
}

// refs reads a labels_refs field, packed or not, and adds the labels to ls.
func (w *Walker) refs(b []byte, i int, typ uint8, ls *labelList, r *refList) int {
	switch typ {
	case wireVarint:
		v, next := varint(b, i)
		if next != bad {
			w.ref(uint32(v), ls, r)
		}
		return next
	case wireLen:
		i, end := span(b, i)
		// The last element may reach beyond the list; the generated code reads
		// on behind it, and so must this.
		for i != bad && i < end {
			var v uint64
			if v, i = varint(b, i); i != bad {
				w.ref(uint32(v), ls, r)
			}
		}
		return i
	}
	return bad
}

func (w *Walker) ref(ref uint32, ls *labelList, r *refList) {
	var s symbol
	if uint64(ref) < uint64(len(w.symbols)) {
		s = w.symbols[ref]
	} else if !r.anyOut {
		r.outside, r.anyOut = ref, true
	}
	r.badUTF8 = r.badUTF8 || s.size&badUTF8 != 0
	s.size &= symbolPlain
	if r.n%2 == 0 {
		r.name = s
	} else {
		ls.add(label{name: r.name.off, nameLen: r.name.size, value: s.off, valueLen: s.size}, w.lim.MaxLabelsPerSeries)
	}
	r.n++
}

// checkRefs refuses what is wrong with the references themselves. The text of
// the labels has been checked with the symbols.
func (w *Walker) checkRefs(r refList, whose string) {
	if r.n%2 != 0 {
		w.refuse(reasonRefsOdd, "%slabels have %d references, which is odd", whose, r.n)
	}
	if r.anyOut {
		w.refuse(reasonRefOutOfRange, "%slabels refer to symbol %d of %d", whose, r.outside, len(w.symbols))
	}
	if r.badUTF8 { // seen when the symbol table was read
		w.refuse(reasonLabelUTF8, "%slabels refer to a symbol that is not valid UTF-8", whose)
	}
}

// metadataV2 is the Metadata of a series. A field that comes again overrides.
type metadataV2 struct {
	typ        int32
	help, unit uint32
}

func (m *metadataV2) walk(b []byte) bool {
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		if next == bad {
			return false
		}
		if num != 1 && num != 3 && num != 4 {
			if i = skip(b, next, typ); i == bad {
				return false
			}
			continue
		}
		if typ != wireVarint {
			return false
		}
		var v uint64
		if v, i = varint(b, next); i == bad {
			return false
		}
		switch num {
		case 1:
			m.typ = int32(v)
		case 3:
			m.help = uint32(v)
		case 4:
			m.unit = uint32(v)
		}
	}
	return true
}

// checkMetadata counts the metadata of the series under way. Prometheus writes
// an empty one on every series, which is not counted.
func (w *Walker) checkMetadata(m metadataV2) {
	if m == (metadataV2{}) {
		return
	}
	w.sum.Metadata++
	for _, ref := range [...]uint32{m.help, m.unit} {
		if uint64(ref) >= uint64(len(w.symbols)) {
			w.refuse(reasonRefOutOfRange, "metadata refers to symbol %d of %d", ref, len(w.symbols))
		} else if w.symbols[ref].size&badUTF8 != 0 {
			w.refuse(reasonMetadataUTF8, "metadata refers to a symbol that is not valid UTF-8")
		}
	}
}
