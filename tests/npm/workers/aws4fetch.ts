import { AwsV4Signer } from "aws4fetch";
import { checks, equal } from "../check";

export default checks({
  signs: async () => {
    // AWS' own example: "Signature Calculations for the Authorization Header", GET bucket lifecycle.
    const signer = new AwsV4Signer({
      url: "https://examplebucket.s3.amazonaws.com/?lifecycle",
      accessKeyId: "AKIAIOSFODNN7EXAMPLE",
      secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
      datetime: "20130524T000000Z",
      headers: { "x-amz-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    });
    const { headers } = await signer.sign();
    const signature = headers.get("authorization")?.split("Signature=")[1];
    equal(signature, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
  },
});
