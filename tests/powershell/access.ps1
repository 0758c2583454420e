# Stands in for what touches Windows. The harness puts this behind the collector script's own access functions, so that
# it replaces those that it names; the others stay. $Virtual is the machine, from harness.py: names in lower case.
#
# Whatever is asked for may be in trouble: by its own name, or by the section and item that ask.

function Confirm-Readable([string]$resource) {
    $section, $item = '', ''
    if (Test-Path -Path variable:sectionName) { $section = $sectionName }
    if (Test-Path -Path variable:itemName) { $item = $itemName }
    foreach ($each in $resource.ToLowerInvariant(), "$section/$item") {
        if (-not $Virtual['trouble'].ContainsKey($each)) { continue }
        $exception = New-Trouble $Virtual['trouble'][$each]
        # As commands do it, or as methods do.
        if ($Virtual['trouble'][$each]['reported']) { Write-Error -Exception $exception } else { throw $exception }
    }
}

function New-Trouble($told) {
    if ($null -eq $told['code']) { return New-Object -TypeName $told['type'] -ArgumentList $told['message'] }
    if ($told['type'] -eq 'System.Runtime.InteropServices.COMException') {
        return New-Object -TypeName $told['type'] -ArgumentList $told['message'], $told['code']
    }
    if ($told['type'] -eq 'System.Security.Cryptography.CryptographicException') {
        return New-Object -TypeName $told['type'] -ArgumentList $told['code']
    }
    # The real one is not everywhere where PowerShell is, and its code cannot be set.
    Add-Type -TypeDefinition @'
namespace Simulated {
    public class ManagementException : System.Exception {
        public int ErrorCode { get; private set; }
        public ManagementException(string message, int code) : base(message) { ErrorCode = code; }
    }
}
'@
    New-Object -TypeName Simulated.ManagementException -ArgumentList $told['message'], $told['code']
}

# In the place of the one call of .NET that opens a key; null is what that says of keys that it may not open as well.
function Open-VirtualKey([string]$path) {
    Confirm-Readable "registry:$path"
    if ($Virtual['closed'] -contains $path) { return $null }
    $found = $Virtual['registry'][$path.ToLowerInvariant()]
    if ($null -eq $found) { return $null }
    $key = New-Object -TypeName PSObject -Property @{ Path = $path; Found = $found }
    $key | Add-Member -MemberType ScriptMethod -Name GetSubKeyNames -Value { , $this.Found['subkeys'] }
    $key | Add-Member -MemberType ScriptMethod -Name GetValueNames -Value { , $this.Found['names'] }
    $key | Add-Member -MemberType ScriptMethod -Name GetValueKind -Value {
        param($name)
        $this.Found['values'][$name.ToLowerInvariant()]['kind']
    }
    $key | Add-Member -MemberType ScriptMethod -Name GetValue -Value {
        param($name, $otherwise, $options)
        if ($options -ne [Microsoft.Win32.RegistryValueOptions]::DoNotExpandEnvironmentNames) { throw 'expanded' }
        Confirm-Readable "data:$($this.Path)"
        , $this.Found['values'][$name.ToLowerInvariant()]['data']
    }
    $key | Add-Member -MemberType ScriptMethod -Name Close -Value { }
    $key
}

function Get-WmiRows([string]$class, [string[]]$properties) {
    Confirm-Readable "wmi:$class"
    foreach ($object in @($Virtual['wmi'][$class.ToLowerInvariant()])) {
        $row = New-Map
        foreach ($property in $properties) {
            if (-not $object.ContainsKey($property)) { throw "$class has no $property" }
            $row.Add($property, $object[$property])
        }
        $row
    }
}

function Get-WmiObject([string]$Namespace, [string]$Class, [string]$Filter) {
    Confirm-Readable "wmi:$Class"
    if ("$Namespace,$Class,$Filter" -ne 'root,__NAMESPACE,Name="ccm"') { throw "no simulation of $Namespace,$Class,$Filter" }
    if ($Virtual['wmi'].ContainsKey('ccm_clientutilities')) { 'ccm' }
}

function Invoke-WmiMethod([string]$Namespace, [string]$Class, [string]$Name) {
    if ("$Namespace,$Class,$Name" -ne 'root\ccm\clientSDK,CCM_ClientUtilities,DetermineIfRebootPending') { throw "no simulation of $Name" }
    $Virtual['wmi']['ccm_clientutilities'] | ForEach-Object { New-Object -TypeName PSObject -Property $_ }
}

function Get-WindowsFolder { 'C:\Windows' }

function Get-FileNumbers([string]$path) {
    Confirm-Readable "file:$path"
    $Virtual['files'][$path.ToLowerInvariant()]
}

function Get-StoreCertificates {
    Confirm-Readable 'certificates'
    $Virtual['certificates']
}

function Get-UpdatesToInstall {
    Confirm-Readable 'updates'
    foreach ($update in $Virtual['updates']) {
        $row = New-Map
        $row.Add('title', $update['title'])
        $row.Add('kb', @(foreach ($id in $update['kb']) { 'KB' + $id }))
        $row
    }
}

# The script's own, on real files elsewhere.
$realLogFiles = ${function:Get-LogFiles}
function Get-LogFiles([string]$directory) {
    Confirm-Readable "folder:$directory"
    $there = $Virtual['folders'][$directory.ToLowerInvariant()]
    if ($null -eq $there) { $there = $Virtual['nowhere'] }
    & $realLogFiles $there
    # Between listing them and opening them.
    foreach ($path in $Virtual['pruned']) { [System.IO.File]::Delete($path) }
}

function Get-HostNames {
    Confirm-Readable 'host'
    $names = New-Map
    $names.Add('name', $Virtual['host'])
    $names.Add('fqdn', $Virtual['fqdn'])
    $names
}

function Test-Administrator {
    Confirm-Readable 'administrator'
    $Virtual['elevated']
}

function Test-Redirected { $Virtual['redirected'] }

if ($Virtual['culture'] -ne '') {
    [System.Threading.Thread]::CurrentThread.CurrentCulture = New-Object -TypeName System.Globalization.CultureInfo -ArgumentList $Virtual['culture']
}
