package awsreadtest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Pricing answers GetProducts in the AWS JSON 1.1 protocol, one document a page.
type Pricing struct {
	// Documents are what GetProducts has, by usage type and region: "Request us-east-1".
	Documents map[string][]string
	// Throttle makes every so-manieth request fail; 0 means none.
	Throttle int

	mu    sync.Mutex // guards calls
	calls int
}

// ServeHTTP implements http.Handler.
func (p *Pricing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ServiceCode string `json:"ServiceCode"`
		NextToken   string `json:"NextToken"`
		Filters     []struct {
			Type, Field, Value string
		} `json:"Filters"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		fail(w, http.StatusBadRequest, "SerializationException", err.Error())
		return
	}
	p.mu.Lock()
	p.calls++
	throttled := p.Throttle > 0 && p.calls%p.Throttle == 0
	p.mu.Unlock()
	// The service exists in three regions; a request signed for another does not get there.
	if throttled {
		fail(w, http.StatusBadRequest, "ThrottlingException", "Rate exceeded")
		return
	}
	if !strings.Contains(r.Header.Get("Authorization"), "/us-east-1/pricing/") {
		fail(w, http.StatusBadRequest, "InvalidSignatureException", "signed for another region")
		return
	}
	key := map[string]string{}
	for _, f := range in.Filters {
		key[f.Field] = f.Value
	}
	all := p.Documents[key["usagetype"]+" "+key["regionCode"]]
	at, _ := strconv.Atoi(in.NextToken)
	out := map[string]any{"FormatVersion": "aws_v1", "PriceList": []string{}}
	if at < len(all) {
		out["PriceList"] = all[at : at+1]
		if at+1 < len(all) {
			out["NextToken"] = strconv.Itoa(at + 1)
		}
	}
	answer(w, out)
}
