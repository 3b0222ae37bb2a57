import { ed25519 } from "@noble/curves/ed25519.js";
import { p256 } from "@noble/curves/nist.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import bcrypt from "bcryptjs";
import nacl from "tweetnacl";
import { checks, equal, ok, utf8 } from "../check";

export default checks({
  "@noble/hashes": () => equal(bytesToHex(sha256(utf8("abc"))), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
  "@noble/curves": () => {
    const { secretKey, publicKey } = ed25519.keygen();
    ok(ed25519.verify(ed25519.sign(utf8("m"), secretKey), utf8("m"), publicKey), "an Ed25519 signature");
    const key = p256.utils.randomSecretKey();
    ok(!p256.verify(p256.sign(utf8("m"), key), utf8("n"), p256.getPublicKey(key)), "another message");
  },
  tweetnacl: () => {
    const [a, b] = [nacl.box.keyPair(), nacl.box.keyPair()];
    const nonce = nacl.randomBytes(nacl.box.nonceLength);
    const sealed = nacl.box(utf8("hi"), nonce, b.publicKey, a.secretKey);
    equal(nacl.box.open(sealed, nonce, a.publicKey, b.secretKey), utf8("hi"));
    equal(nacl.box.open(sealed, nonce, b.publicKey, b.secretKey), null);
  },
  bcryptjs: async () => {
    const hash = await bcrypt.hash("secret", 4);
    equal([await bcrypt.compare("secret", hash), await bcrypt.compare("other", hash)], [true, false]);
  },
});
