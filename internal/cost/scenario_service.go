package cost

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v4"
)

// put replaces the service of the same type that a base brought in, or adds it.
func put(a *Architecture, s Service) {
	same := func(o Service) bool { return fmt.Sprintf("%T", o) == fmt.Sprintf("%T", s) }
	if i := slices.IndexFunc(a.Services, same); i >= 0 {
		a.Services[i] = s
		return
	}
	a.Services = append(a.Services, s)
}

// set returns a reader of a number into d.
func (l *loader) set(d *Decimal, what string) func(*yaml.Node) {
	return func(v *yaml.Node) {
		if n := l.number(v, what); n != nil {
			*d = *n
		}
	}
}

// setp is set for a number that may be absent.
func (l *loader) setp(d **Decimal, what string) func(*yaml.Node) {
	return func(v *yaml.Node) { *d = l.number(v, what) }
}

func (l *loader) setText(s *string, what string) func(*yaml.Node) {
	return func(v *yaml.Node) { *s, _ = l.text(v, what) }
}

func (l *loader) setInt(n *int, what string) func(*yaml.Node) {
	return func(v *yaml.Node) { *n = l.whole(v, what) }
}

func (l *loader) setBool(b *bool, what string) func(*yaml.Node) {
	return func(v *yaml.Node) {
		if v.Value != "true" && v.Value != "false" {
			l.bad(v, "write true or false", "%s is %.20q", what, v.Value)
		}
		*b = v.Value == "true"
	}
}

func (l *loader) setArch(a *Arch) func(*yaml.Node) {
	return func(v *yaml.Node) {
		arch, err := ParseArch(v.Value)
		if err != nil {
			l.bad(v, "write arm64 or x86_64", "%v", err)
		}
		*a = arch
	}
}

// services returns what reads the services of an architecture.
func (l *loader) services(name string, a *Architecture) fields {
	// check adds the service once it is read and makes sense.
	check := func(n *yaml.Node, key string, s Service) {
		if err := s.Check(); err != nil {
			l.bad(n, "correct the figures of this service", "%s.%s: %v", name, key, err)
		}
		put(a, s)
	}
	volume := func(v *Volume, perRequest string, known fields) fields {
		known[perRequest] = l.setp(&v.PerRequest, perRequest)
		known["gb"] = l.setp(&v.GB, "gb")
		return known
	}
	return fields{
		"apigateway": func(n *yaml.Node) {
			switch n.Value {
			case "http", "rest":
				put(a, APIGateway{REST: n.Value == "rest"})
			default:
				l.bad(n, "write apigateway: http or apigateway: rest", "%s.apigateway is %.20q", name, n.Value)
			}
		},
		"s3": func(n *yaml.Node) {
			var s S3
			l.mapping(n, name+".s3", fields{
				"puts_per_request": l.set(&s.PutsPerRequest, "puts_per_request"),
				"gets_per_request": l.set(&s.GetsPerRequest, "gets_per_request"),
				"storage_gb":       l.set(&s.StorageGB, "storage_gb"),
			})
			check(n, "s3", s)
		},
		"logs": func(n *yaml.Node) {
			s, kind := Logs{Kind: LogsVended}, string(LogsVended)
			l.mapping(n, name+".logs", fields{
				"kind":               l.setText(&kind, "kind"),
				"bytes_per_request":  l.set(&s.BytesPerRequest, "bytes_per_request"),
				"events_per_request": l.set(&s.EventsPerRequest, "events_per_request"),
				"gb":                 l.set(&s.GB, "gb"),
				"storage_gb":         l.set(&s.StorageGB, "storage_gb"),
				"insights_gb":        l.set(&s.InsightsGB, "insights_gb"),
			})
			s.Kind = LogKind(kind)
			check(n, "logs", s)
		},
		"kinesis": func(n *yaml.Node) {
			var s Kinesis
			l.mapping(n, name+".kinesis", volume(&s.Records, "records_per_request", fields{
				"shards":       l.set(&s.Shards, "shards"),
				"record_bytes": l.set(&s.RecordBytes, "record_bytes"),
				"consumers":    l.set(&s.Consumers, "consumers"),
				"fan_out":      l.set(&s.FanOut, "fan_out"),
				"retention_h":  l.set(&s.RetentionHours, "retention_h"),
			}))
			check(n, "kinesis", s)
		},
		"firehose": func(n *yaml.Node) {
			var s Firehose
			l.mapping(n, name+".firehose", volume(&s.Records, "records_per_request", fields{
				"record_bytes": l.set(&s.RecordBytes, "record_bytes"),
			}))
			check(n, "firehose", s)
		},
		"sqs": func(n *yaml.Node) {
			var s SQS
			l.mapping(n, name+".sqs", volume(&s.Messages, "messages_per_request", fields{
				"message_bytes":     l.set(&s.MessageBytes, "message_bytes"),
				"calls_per_message": l.setInt(&s.Calls, "calls_per_message"),
				"batch":             l.setInt(&s.Batch, "batch"),
				"fifo":              l.setBool(&s.FIFO, "fifo"),
				"idle_pollers":      l.set(&s.IdlePollers, "idle_pollers"),
			}))
			check(n, "sqs", s)
		},
		"dynamodb": func(n *yaml.Node) {
			var s DynamoDB
			l.mapping(n, name+".dynamodb", fields{
				"item_bytes":         l.set(&s.ItemBytes, "item_bytes"),
				"writes_per_request": l.set(&s.WritesPerRequest, "writes_per_request"),
				"reads_per_request":  l.set(&s.ReadsPerRequest, "reads_per_request"),
				"eventual":           l.setBool(&s.Eventual, "eventual"),
				"storage_gb":         l.set(&s.StorageGB, "storage_gb"),
			})
			check(n, "dynamodb", s)
		},
		"ec2": func(n *yaml.Node) {
			s := EC2{Count: Int(1)}
			l.mapping(n, name+".ec2", fields{
				"type":     l.setText(&s.Type, "type"),
				"count":    l.set(&s.Count, "count"),
				"reserved": l.setBool(&s.Reserved, "reserved"),
			})
			check(n, "ec2", s)
		},
		"vcpu": func(n *yaml.Node) {
			s := VCPU{Nodes: Int(1)}
			var price Decimal
			l.mapping(n, name+".vcpu", l.scaling(&s.Scaling, fields{
				"price_hour": l.set(&price, "price_hour"),
				"cpus":       l.set(&s.CPUs, "cpus"),
				"nodes":      l.set(&s.Nodes, "nodes"),
			}))
			s.PriceHour = Dollars(price)
			check(n, "vcpu", s)
		},
		"fargate": func(n *yaml.Node) {
			s := Fargate{Arch: ArchX86, Tasks: Int(1)}
			l.mapping(n, name+".fargate", l.scaling(&s.Scaling, fields{
				"arch":      l.setArch(&s.Arch),
				"vcpu":      l.set(&s.VCPU, "vcpu"),
				"memory_gb": l.set(&s.MemoryGB, "memory_gb"),
				"tasks":     l.set(&s.Tasks, "tasks"),
			}))
			check(n, "fargate", s)
		},
		"msk": func(n *yaml.Node) {
			var s MSK
			l.mapping(n, name+".msk", fields{
				"type":    l.setText(&s.Type, "type"),
				"brokers": l.set(&s.Brokers, "brokers"),
				"gb":      l.set(&s.StorageGB, "gb"),
			})
			check(n, "msk", s)
		},
		"alb": func(n *yaml.Node) {
			var s ALB
			l.mapping(n, name+".alb", fields{"lcus": l.set(&s.LCUs, "lcus")})
			check(n, "alb", s)
		},
		"eks": func(n *yaml.Node) {
			s := EKS{Clusters: Int(1)}
			l.mapping(n, name+".eks", fields{
				"clusters":         l.set(&s.Clusters, "clusters"),
				"extended_support": l.setBool(&s.ExtendedSupport, "extended_support"),
			})
			check(n, "eks", s)
		},
		"nat": func(n *yaml.Node) {
			s := NAT{Gateways: Int(1)}
			l.mapping(n, name+".nat", fields{
				"gateways":          l.set(&s.Gateways, "gateways"),
				"bytes_per_request": l.set(&s.BytesPerRequest, "bytes_per_request"),
				"gb":                l.set(&s.GB, "gb"),
			})
			check(n, "nat", s)
		},
		"websocket": func(n *yaml.Node) {
			var s WebSocket
			l.mapping(n, name+".websocket", fields{
				"messages_per_request": l.set(&s.MessagesPerRequest, "messages_per_request"),
				"message_bytes":        l.set(&s.MessageBytes, "message_bytes"),
				"minutes_per_request":  l.set(&s.MinutesPerRequest, "minutes_per_request"),
			})
			check(n, "websocket", s)
		},
		"transfer": func(n *yaml.Node) {
			var s Transfer
			l.mapping(n, name+".transfer", fields{
				"internet_gb":                l.set(&s.InternetGB, "internet_gb"),
				"internet_bytes_per_request": l.set(&s.InternetBytesPerRequest, "internet_bytes_per_request"),
				"zone_gb":                    l.set(&s.ZoneGB, "zone_gb"),
				"region_gb":                  l.set(&s.RegionGB, "region_gb"),
			})
			check(n, "transfer", s)
		},
		"lmi": func(n *yaml.Node) {
			s := ManagedInstances{Count: Int(3)}
			l.mapping(n, name+".lmi", fields{
				"type":        l.setText(&s.Type, "type"),
				"count":       l.set(&s.Count, "count"),
				"hours":       l.setp(&s.Hours, "hours"),
				"price_hour":  l.setp(&s.PriceHour, "price_hour"),
				"per_request": l.setp(&s.PerRequest, "per_request"),
			})
			check(n, "lmi", s)
		},
		"ops": func(n *yaml.Node) {
			var monthly Decimal
			l.mapping(n, name+".ops", fields{"monthly_usd": l.set(&monthly, "monthly_usd")})
			check(n, "ops", Ops{Monthly: Dollars(monthly)})
		},
	}
}

// scaling adds what makes servers follow the traffic to the keys that they have.
func (l *loader) scaling(s *Scaling, known fields) fields {
	known["cpu_ms_per_request"] = l.set(&s.CPUMSPerRequest, "cpu_ms_per_request")
	known["utilisation"] = l.set(&s.UtilisationRatio, "utilisation")
	known["peak"] = l.set(&s.PeakRatio, "peak")
	return known
}
