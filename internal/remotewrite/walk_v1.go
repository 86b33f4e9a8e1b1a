package remotewrite

import (
	"fmt"
	"unicode/utf8"
)

// walkV1 walks a prometheus.WriteRequest.
func (w *Walker) walkV1(b []byte) *Error {
	known, fromV2 := false, false
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		if next == bad {
			return w.malformed(V1)
		}
		switch num {
		case 1, 3:
			start, end := span(b, next)
			if typ != wireLen || end == bad {
				return w.malformed(V1)
			}
			known = true
			refused := w.rej.total
			if num == 3 {
				if !w.metadataV1(b[start:end]) {
					return w.malformed(V1)
				}
			} else {
				if !w.fastSeriesV1(b[start:end]) {
					w.beginSeries()
					if !w.seriesV1(b[start:end]) {
						return w.malformed(V1)
					}
					w.endSeries()
				}
				if w.overLimits() {
					return w.limitError()
				}
			}
			if w.rej.total > refused {
				w.rej.cutOut(i, end)
			}
			i = end
		default:
			fromV2 = fromV2 || num == 4 || num == 5
			if i = skip(b, next, typ); i == bad {
				return w.malformed(V1)
			}
		}
	}
	if known || len(b) == 0 {
		return nil
	}
	err := badRequest(reasonWrongSchema, "the %d-byte message has neither series nor metadata of a 1.0 request", len(b))
	if fromV2 {
		err.Hint = "the body looks like a 2.0 message: send Content-Type: " + contentTypeV2
	}
	return err
}

// seriesV1 walks a TimeSeries. Like all the walks below it returns false for
// malformed protobuf only; content it does not like it refuses.
func (w *Walker) seriesV1(b []byte) bool {
	i := 0
	// Labels come first from every known sender, so this loop takes nearly all
	// of the bytes.
	for i < len(b) && b[i] == 1<<3|wireLen {
		start, end := span(b, i+1)
		if end == bad {
			return false
		}
		l, ok := labelV1(b, start, end)
		if !ok {
			return false
		}
		w.labels.add(l, w.lim.MaxLabelsPerSeries)
		i = end
	}
	// One look at the block of labels, tags and lengths included, spares a look
	// at each text. A length above 127 fails it and costs only time.
	w.labels.valid = isASCII(b[:i])

	for i < len(b) {
		num, typ, next := tag(b, i)
		if next == bad {
			return false
		}
		if num > 4 {
			if i = skip(b, next, typ); i == bad {
				return false
			}
			continue
		}
		start, end := span(b, next)
		if typ != wireLen || end == bad {
			return false
		}
		ok := true
		switch num {
		case 1:
			var l label
			l, ok = labelV1(b, start, end)
			w.labels.add(l, w.lim.MaxLabelsPerSeries)
			w.labels.valid = false
		case 2:
			ok = w.sample(b[start:end])
		case 3:
			ok = w.exemplarV1(b[start:end])
		case 4:
			ok = w.histogram(b[start:end])
		}
		if !ok {
			return false
		}
		i = end
	}
	w.checkSeriesLabels(b)
	return true
}

// labelV1 finds name and value of the Label in b[i:end].
func labelV1(b []byte, i, end int) (l label, ok bool) {
	b = b[:end]
	for i < end {
		num, typ, next := tag(b, i)
		if next == bad {
			return l, false
		}
		if num > 2 {
			if i = skip(b, next, typ); i == bad {
				return l, false
			}
			continue
		}
		start, stop := span(b, next)
		if typ != wireLen || stop == bad {
			return l, false
		}
		if num == 1 {
			l.name, l.nameLen = uint32(start), uint32(stop-start)
		} else {
			l.value, l.valueLen = uint32(start), uint32(stop-start)
		}
		i = stop
	}
	return l, true
}

// sample walks a Sample of either version; they differ in the start timestamp.
func (w *Walker) sample(b []byte) bool {
	var value uint64
	var ms, start int64
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		switch {
		case next == bad:
			return false
		case num == 1:
			if typ != wireI64 {
				return false
			}
			value, i = fixed64(b, next)
		case num == 2, num == 3 && w.version == V2:
			if typ != wireVarint {
				return false
			}
			var u uint64
			u, i = varint(b, next)
			if num == 2 {
				ms = int64(u)
			} else {
				start = int64(u)
			}
		default:
			i = skip(b, next, typ)
		}
		if i == bad {
			return false
		}
	}
	w.sum.Samples++
	if value == staleNaN {
		w.sum.StaleSamples++
	}
	w.startTime(start)
	w.sampleTime(ms, "a sample")
	return true
}

// exemplarV1 walks an Exemplar of a 1.0 request.
func (w *Walker) exemplarV1(b []byte) bool {
	var ms int64
	w.ex.reset()
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		if next == bad {
			return false
		}
		switch num {
		case 1:
			start, end := span(b, next)
			if typ != wireLen || end == bad {
				return false
			}
			l, ok := labelV1(b, start, end)
			if !ok {
				return false
			}
			w.ex.add(l, w.lim.MaxLabelsPerSeries)
			i = end
		case 2:
			if typ != wireI64 {
				return false
			}
			_, i = fixed64(b, next)
		case 3:
			if typ != wireVarint {
				return false
			}
			var u uint64
			u, i = varint(b, next)
			ms = int64(u)
		default:
			i = skip(b, next, typ)
		}
		if i == bad {
			return false
		}
	}
	w.sum.Exemplars++
	w.checkExemplarLabels(b)
	w.exemplarTime(ms)
	return true
}

// metadataV1 walks a MetricMetadata, which stands on its own in the request. An
// entry without a family name is accepted: it is of no use and does no harm.
func (w *Walker) metadataV1(b []byte) bool {
	var name, help, unit []byte // a field that comes again overrides
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		if next == bad {
			return false
		}
		switch num {
		case 1:
			if typ != wireVarint {
				return false
			}
			_, i = varint(b, next)
		case 2, 4, 5:
			start, end := span(b, next)
			if typ != wireLen || end == bad {
				return false
			}
			switch num {
			case 2:
				name = b[start:end]
			case 4:
				help = b[start:end]
			case 5:
				unit = b[start:end]
			}
			i = end
		default:
			i = skip(b, next, typ)
		}
		if i == bad {
			return false
		}
	}
	if utf8.Valid(name) && utf8.Valid(help) && utf8.Valid(unit) {
		w.sum.Metadata++
		return true
	}
	text := ""
	if len(w.rej.first) < maxFirst {
		text = fmt.Sprintf("metadata entry %d: text is not valid UTF-8", w.sum.Metadata+w.rej.lost.Metadata)
	}
	w.rej.lost.Metadata++
	w.rej.add(reasonMetadataUTF8, text)
	return true
}
