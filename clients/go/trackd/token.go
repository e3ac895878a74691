package trackd

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// WithToken makes every call carry this bearer token. It goes over TLS (grpc.WithTransportCredentials) or to loopback;
// to anywhere else in the clear the call fails.
func WithToken(token string) grpc.DialOption {
	return grpc.WithPerRPCCredentials(bearer(func() (string, error) { return token, nil }))
}

// WithTokenFile is WithToken with the token in this file, which is read anew for each call, so that tokens can be replaced
// while the program runs.
func WithTokenFile(path string) grpc.DialOption {
	return grpc.WithPerRPCCredentials(bearer(func() (string, error) {
		content, err := os.ReadFile(path)
		return strings.TrimSpace(string(content)), err
	}))
}

type bearer func() (string, error)

// GetRequestMetadata is asked before each call.
func (b bearer) GetRequestMetadata(ctx context.Context, uri ...string) (map[string]string, error) {
	call, _ := credentials.RequestInfoFromContext(ctx)
	if err := credentials.CheckSecurityLevel(call.AuthInfo, credentials.PrivacyAndIntegrity); err != nil && !loopback(uri) {
		return nil, errors.New("the token would travel in the clear: give TLS credentials")
	}
	token, err := b()
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity is false because it would be asked for on loopback, too.
func (bearer) RequireTransportSecurity() bool { return false }

func loopback(uris []string) bool {
	for _, text := range uris {
		parsed, err := url.Parse(text)
		if err != nil {
			return false
		}
		host := parsed.Hostname()
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return len(uris) > 0
}
