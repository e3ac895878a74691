package trackd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

// carried serves on loopback and notes what calls are authorized with.
type carried struct {
	trackdv1.UnimplementedIngestServiceServer
	values []string
}

func (c *carried) Append(ctx context.Context, _ *trackdv1.AppendRequest) (*trackdv1.AppendResponse, error) {
	sent, _ := metadata.FromIncomingContext(ctx)
	c.values = append(c.values, sent.Get("authorization")...)
	return &trackdv1.AppendResponse{Result: &trackdv1.AppendResult{}}, nil
}

func serveCarried(t *testing.T, options ...grpc.ServerOption) (*carried, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, service := grpc.NewServer(options...), &carried{}
	trackdv1.RegisterIngestServiceServer(server, service)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return service, listener.Addr().String()
}

func appended(t *testing.T, target string, options ...grpc.DialOption) error {
	t.Helper()
	client, err := NewClient(target, options...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Append(soon(t), "tests", nil)
	return err
}

func TestATokenIsThatOfTheFileAtTheMomentOfTheCall(t *testing.T) {
	service, target := serveCarried(t)
	path := filepath.Join(t.TempDir(), "token")
	for _, token := range []string{"one", "two"} {
		if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := appended(t, target, WithTokenFile(path)); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "authorization", service.values, []string{"Bearer one", "Bearer two"})
	if err := appended(t, target, WithTokenFile(path+".gone")); err == nil {
		t.Fatal("a call without its token")
	}
}

func TestATokenDoesNotTravelInTheClear(t *testing.T) {
	service, target := serveCarried(t)
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", target)
	}
	err := appended(t, "passthrough:///far.example.org:7077", grpc.WithContextDialer(dial), WithToken("secret"))
	if err == nil || !strings.Contains(err.Error(), "in the clear") || strings.Contains(err.Error(), "secret") {
		t.Fatal(err)
	}
	equal(t, "authorization", len(service.values), 0)
}

func TestTLSAndATokenAreOptions(t *testing.T) {
	own, trusted := selfSigned(t)
	service, target := serveCarried(t, grpc.Creds(credentials.NewServerTLSFromCert(&own)))
	tlsOption := grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(trusted, ""))
	if err := appended(t, target, tlsOption, WithToken("one")); err != nil {
		t.Fatal(err)
	}
	equal(t, "authorization", service.values, []string{"Bearer one"})
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
