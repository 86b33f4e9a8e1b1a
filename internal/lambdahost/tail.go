package lambdahost

import "sync"

// maxTailBytes is how much of the end of an invocation's log Lambda returns.
const maxTailBytes = 4 << 10

// tail keeps the end of what is logged during one invocation.
type tail struct {
	mu   sync.Mutex
	open bool   // an invocation is under way
	log  []byte // at most maxTailBytes between calls
}

// begin starts the log of an invocation.
func (t *tail) begin(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open, t.log = true, t.log[:0]
	t.append(line)
}

// add takes a line that the function has printed.
func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open {
		t.append(line)
	}
}

// end takes the last lines and returns a copy of what was kept.
func (t *tail) end(lines ...string) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, line := range lines {
		t.append(line)
	}
	t.open = false
	return append([]byte(nil), t.log...)
}

func (t *tail) append(line string) {
	if over := len(line) + 1 - maxTailBytes; over > 0 { // the end of it is all that stays
		line = line[over:]
	}
	t.log = append(append(t.log, line...), '\n')
	if over := len(t.log) - maxTailBytes; over > 0 {
		t.log = append(t.log[:0], t.log[over:]...)
	}
}
