package cost

import (
	"fmt"
	"slices"
	"strings"
)

// unlikeServices names the services that one of the compared architectures is priced with and another is not although
// it serves the same requests, so that their totals do not hold the same things: what takes the requests of a function,
// what stores an object for each, and the lines that Lambda logs. All are compared with the baseline, which is on one side.
func (s *Scenario) unlikeServices() []string {
	var warnings []string
	for _, kind := range []struct {
		key          string
		priced, does func(a *Architecture) bool // does: may do without it for good reason
	}{
		{"apigateway", has(func(APIGateway) bool { return true }), func(a *Architecture) bool {
			return len(a.Functions) == 0 || has(func(WebSocket) bool { return true })(a) || has(func(ALB) bool { return true })(a)
		}},
		{"s3 puts_per_request", has(func(v S3) bool { return v.PutsPerRequest.Sign() > 0 }), func(a *Architecture) bool { return !a.computes() }},
		{"logs", has(func(v Logs) bool { return v.BytesPerRequest.Sign() > 0 }), func(a *Architecture) bool { return len(a.Functions) == 0 }},
	} {
		var with, without []string
		for i := range s.Architectures {
			switch a := &s.Architectures[i]; {
			case kind.priced(a):
				with = append(with, a.Name)
			case !kind.does(a):
				without = append(without, a.Name)
			}
		}
		if len(with) == 0 || len(without) == 0 {
			continue
		}
		warnings = append(warnings, fmt.Sprintf("%s is priced for %s and missing for %s: their totals do not hold the same services; give it to all of them, unless they differ in it",
			kind.key, listed(with), listed(without)))
	}
	return warnings
}

// has returns what looks for a service that is as it should be.
func has[S Service](is func(S) bool) func(a *Architecture) bool {
	return func(a *Architecture) bool {
		return slices.ContainsFunc(a.Services, func(svc Service) bool {
			v, ok := svc.(S)
			return ok && is(v)
		})
	}
}

// computes says whether something in the architecture handles requests.
func (a *Architecture) computes() bool {
	return len(a.Functions) > 0 || slices.ContainsFunc(a.Services, func(svc Service) bool {
		switch svc.(type) {
		case VCPU, Fargate, EC2, ManagedInstances:
			return true
		}
		return false
	})
}

// listed joins names for a sentence.
func listed(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
