package remotewrite

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// Version is a version of the remote-write protocol. It decides which protobuf
// message a body holds.
type Version uint8

const (
	// V1 is remote write 1.0: a prometheus.WriteRequest.
	V1 Version = 1
	// V2 is remote write 2.0: an io.prometheus.write.v2.Request.
	V2 Version = 2
)

// The headers of the 2.0 specification. The three Written headers are sent with
// answers to 2.0 requests only; a 1.0 sender does not expect them.
const (
	// HeaderVersion names the protocol version on requests.
	HeaderVersion = "X-Prometheus-Remote-Write-Version"
	// HeaderSamplesWritten tells the sender how many samples were stored.
	HeaderSamplesWritten = "X-Prometheus-Remote-Write-Samples-Written"
	// HeaderHistogramsWritten tells the sender how many histograms were stored.
	HeaderHistogramsWritten = "X-Prometheus-Remote-Write-Histograms-Written"
	// HeaderExemplarsWritten tells the sender how many exemplars were stored.
	HeaderExemplarsWritten = "X-Prometheus-Remote-Write-Exemplars-Written"
)

// HeaderInvocation is no header of the protocol: the reference server as a Lambda function tells by it under which id
// Lambda logs the invocation that answered. Gateways pass it on, and most of them say of an invocation nothing else.
const HeaderInvocation = "Cirrusbench-Lambda-Request-Id"

const (
	mediaType     = "application/x-protobuf"
	protoV1       = "prometheus.WriteRequest"
	protoV2       = "io.prometheus.write.v2.Request"
	contentTypeV1 = mediaType
	contentTypeV2 = mediaType + ";proto=" + protoV2
)

// String is the version as people write it: "1.0" or "2.0".
func (v Version) String() string {
	switch v {
	case V1:
		return "1.0"
	case V2:
		return "2.0"
	}
	return "unknown version " + strconv.Itoa(int(v))
}

// ContentType is the Content-Type a sender of this version uses. It is empty
// for an unknown version.
func (v Version) ContentType() string {
	switch v {
	case V1:
		return contentTypeV1
	case V2:
		return contentTypeV2
	}
	return ""
}

// HeaderValue is the value of [HeaderVersion] for this version: "0.1.0" for
// 1.0, which the first specification fixed so, and "2.0.0" for 2.0. It is empty
// for an unknown version.
func (v Version) HeaderValue() string {
	switch v {
	case V1:
		return "0.1.0"
	case V2:
		return "2.0.0"
	}
	return ""
}

// Negotiate maps the Content-Type and Content-Encoding of a request to a
// protocol version. It looks at the type before the encoding, and a caller
// should call it before it touches the body: a sender that is told 415 can
// change the version, one that is told 400 drops the data.
//
// Media type, parameter names and parameter values match in any case, with
// optional white space and quotes. Without a proto parameter the version is
// 1.0. The encoding is snappy; an absent one is taken as snappy, as the
// protocol knows no other. Everything else is an [*Error] with Status 415.
func Negotiate(contentType, contentEncoding string) (Version, error) {
	v, err := negotiateType(contentType)
	if err != nil {
		return 0, err
	}
	enc := strings.Trim(contentEncoding, " \t")
	if enc != "" && !strings.EqualFold(enc, "snappy") {
		return 0, &Error{
			Status: http.StatusUnsupportedMediaType,
			Reason: reasonContentEncoding.String(),
			Detail: "content encoding " + quote([]byte(enc)) + " is not supported",
			Hint:   "compress the body with snappy in the block format and send Content-Encoding: snappy",
		}
	}
	return v, nil
}

func negotiateType(contentType string) (Version, error) {
	// What real senders write, without the general parser and its allocations.
	switch contentType {
	case contentTypeV1:
		return V1, nil
	case contentTypeV2:
		return V2, nil
	}
	mt, params, err := mime.ParseMediaType(contentType)
	if err == nil && mt == mediaType {
		proto, ok := params["proto"]
		switch {
		case !ok, strings.EqualFold(proto, protoV1):
			return V1, nil
		case strings.EqualFold(proto, protoV2):
			return V2, nil
		}
	}
	return 0, &Error{
		Status: http.StatusUnsupportedMediaType,
		Reason: reasonContentType.String(),
		Detail: "content type " + quote([]byte(contentType)) + " is not supported",
		Hint:   "send Content-Type: " + contentTypeV1 + " for 1.0 or " + contentTypeV2 + " for 2.0",
	}
}
