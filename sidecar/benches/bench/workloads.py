"""A CA of one run alone, and the leaves of its two workloads."""

import shutil

from .processes import output

TRUST_DOMAIN = "spiffe://bench.consul/ns/default/dc/dc1/svc"
KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Authority:
    """Signs leaves; each has a folder in `folder`."""

    def __init__(self, folder):
        self.folder = folder
        config = folder / "ca.cnf"
        config.write_text("[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nCN=bench CA\n"
                          "[ext]\nbasicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\n"
                          "subjectKeyIdentifier=hash\nsubjectAltName=URI:spiffe://bench.consul\n")
        output(["openssl", "req", "-x509", *KEY, "-days", "2", "-config", str(config),
                "-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.pem")], "making a CA")

    def leaf(self, name):
        """The folder with a workload's cert.pem, key.pem, both of them in both.pem, and roots.pem."""
        leaf = self.folder / name
        if leaf.exists():
            return leaf
        leaf.mkdir()
        extensions = leaf / "extensions"
        extensions.write_text("basicConstraints=critical,CA:false\n"
                              "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n"
                              f"subjectAltName=critical,URI:{TRUST_DOMAIN}/{name},DNS:{name}\n")
        output(["openssl", "req", "-new", *KEY, "-subj", "/", "-keyout", str(leaf / "key.pem"),
                "-out", str(leaf / "request.pem")], f"making a key for {name}")
        output(["openssl", "x509", "-req", "-in", str(leaf / "request.pem"), "-CA", str(self.folder / "ca.pem"),
                "-CAkey", str(self.folder / "ca.key"), "-CAcreateserial", "-days", "1",
                "-extfile", str(extensions), "-out", str(leaf / "cert.pem")], f"making a leaf for {name}")
        (leaf / "both.pem").write_bytes((leaf / "cert.pem").read_bytes() + (leaf / "key.pem").read_bytes())
        shutil.copy(self.folder / "ca.pem", leaf / "roots.pem")
        return leaf
