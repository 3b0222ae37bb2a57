import * as jose from "jose";
import { checks, equal, fails, utf8 } from "../check";

const secret = utf8("0123456789abcdef0123456789abcdef");

async function signed(alg: string) {
  const { publicKey, privateKey } = await jose.generateKeyPair(alg, { extractable: true });
  const jwt = await new jose.SignJWT({ sub: "1" }).setProtectedHeader({ alg }).setExpirationTime("1h").sign(privateKey);
  equal((await jose.jwtVerify(jwt, publicKey)).payload.sub, "1");
  const other = await jose.generateKeyPair(alg);
  await fails(() => jose.jwtVerify(jwt, other.publicKey), /signature verification failed/);
}

export default checks({
  HS256: async () => {
    const jwt = await new jose.SignJWT({ role: "admin" }).setProtectedHeader({ alg: "HS256" }).setIssuedAt(0).sign(secret);
    equal(jwt.split(".")[0], "eyJhbGciOiJIUzI1NiJ9");
    equal((await jose.jwtVerify(jwt, secret)).payload, { role: "admin", iat: 0 });
    await fails(() => jose.jwtVerify(`${jwt}x`, secret), /signature/i);
  },
  ES256: () => signed("ES256"),
  EdDSA: () => signed("EdDSA"),
  "JWKS import": async () => {
    const { publicKey, privateKey } = await jose.generateKeyPair("ES256", { extractable: true });
    const keys = jose.createLocalJWKSet({ keys: [{ ...(await jose.exportJWK(publicKey)), kid: "k", alg: "ES256" }] });
    const jwt = await new jose.SignJWT({}).setProtectedHeader({ alg: "ES256", kid: "k" }).sign(privateKey);
    equal((await jose.jwtVerify(jwt, keys)).protectedHeader.kid, "k");
  },
  JWE: async () => {
    const jwe = await new jose.EncryptJWT({ a: 1 }).setProtectedHeader({ alg: "dir", enc: "A256GCM" }).encrypt(secret);
    equal((await jose.jwtDecrypt(jwe, secret)).payload, { a: 1 });
  },
});
